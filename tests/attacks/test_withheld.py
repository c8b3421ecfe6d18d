"""Where nobody tells which releases enclose a deletion, nothing that an attack is handed does."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.attacks.raw_difference import RawDifference
from palimpsest.attacks.session import attack_transcript
from palimpsest.simulator.experiment.attackers import run_attacks
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.testing.transcripts import Data, digits, read_back
from palimpsest.simulator.world.models.model import linear_params
from palimpsest.simulator.world.protocols.knowledge import CaseView, PublicKnowledge
from palimpsest.simulator.world.protocols.streams import each_alone
from palimpsest.simulator.world.protocols.transcript import TranscriptWriter
from palimpsest.simulator.world.records import Array, Case, Params, Release, same_model

HEARD = 8
"""Releases of one stream."""

PLUGIN = '''
import gc, hashlib, json, os, sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from palimpsest.attacks.average import guesses
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.specs import Frozen


class Everything(Frozen):
    """Answers with a number that depends on all that it is handed, but for its folder's and its processes' numbers."""

    card: ClassVar[Card] = Card(summary="for a test", promises="reconstruction")
    kind: Literal["everything"] = "everything"

    def run(self, cases, knowledge, rng):
        told = [repr(rng.bit_generator.state), knowledge.facts.model_dump_json(), str(len(cases)), repr(sys.argv)]
        told += [f"{name}={value}" for name, value in sorted(os.environ.items()) if name != "TMPDIR"]
        for case in cases:
            lengths = [len(part) for part in (case.between, case.trunk, case.branch, case.stream, case.messages)]
            told += [repr((case.index, case.size, case.labels, case.clients, lengths))]
        for path in sorted(Path.cwd().rglob("*")):
            about = path.stat()
            told += [str(path.relative_to(Path.cwd())), repr((about.st_size, about.st_mtime_ns, about.st_mode))]
            told += [hashlib.sha256(path.read_bytes()).hexdigest()] if path.is_file() else []
        told += [str([os.readlink(f"/proc/self/fd/{fd}") for fd in ("0", "1", "2")])]
        told += [part for part in map(repr, (o for o in gc.get_objects() if isinstance(o, str))) if "bracket" in part]
        number = int(hashlib.sha256("|".join(told).encode()).hexdigest()[:12], 16)
        marks = {"number": float(number), "begins": float(len(case.stream) - 2 - len(case.between))}
        return [replace(guess, notes=marks) for guess in guesses(cases, knowledge).values()]
'''


@pytest.fixture(scope="module")
def data() -> Data:
    return digits(private=60, public=80)


def walk(seed: int, steps: int = HEARD) -> list[Params]:
    """Models without a signal: each is the one before it and some noise."""
    rng = np.random.default_rng(seed)
    drawn: Array = np.cumsum(rng.standard_normal((steps, 65, 10)), axis=0)
    return [linear_params(matrix) for matrix in drawn]


def written(place: Path, data: Data, begins: int, streams: list[list[Params]]) -> Path:
    """A transcript of alternative deletions that begin after the same release of the training."""
    writer = TranscriptWriter(place, with_phases=False)
    first = [writer.append(Release(0, 0, "training", params)) for params in streams[0][: begins + 1]]
    views = []
    for branch, stream in enumerate(streams, 1):
        for params in stream[begins + 1 :]:
            last = writer.append(Release(branch, 0, "unlearning", params), first[-1])
        views.append(CaseView(before=None, after=last, size=1))
    known = data.knowledge(data.spec("softmax", 1.0))
    facts = known.facts.model_copy(
        update={
            "scenario": f"bracket-after-{begins}",
            "algorithm": "fedavg",
            "training": {"learning_rate": 0.1, "batch_size": 10, "rounds": begins},
            "unlearning": {"method": "finetune", "rounds": HEARD - begins - 1},
            "cases": tuple(views),
        }
    )
    replace(known, facts=facts).save(place)
    return place


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_what_is_handed_over_is_the_same_wherever_a_deletion_begins(data: Data, tmp_path: Path) -> None:
    stream, handed = walk(0), []
    for begins in range(HEARD - 1):
        place = written(tmp_path / str(begins), data, begins, [stream])
        known = PublicKnowledge.open(place / "knowledge.json")
        handed += [contents(folder) for folder in each_alone(place, known)]
    assert len(handed) == HEARD - 1
    assert all(other == handed[0] for other in handed)


def test_a_case_is_handed_over_without_the_others(data: Data, tmp_path: Path) -> None:
    first = walk(0)
    other = first[:5] + walk(1)[5:]
    place = written(tmp_path / "both", data, 4, [first, other])
    known = PublicKnowledge.open(place / "knowledge.json")
    for folder, stream in zip(each_alone(place, known), (first, other), strict=True):
        [case] = read_back(folder)
        assert (case.index, len(case.stream), len(list((folder / "releases").iterdir()))) == (0, HEARD, HEARD)
        assert all(same_model(heard, params) for heard, params in zip(case.stream, stream, strict=True))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of somebody else's."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "plugged_in_everything.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    import plugged_in_everything  # type: ignore[import-not-found]

    return plugged_in_everything


def test_an_attack_that_uses_everything_is_at_chance(plugin: Any, data: Data, tmp_path: Path) -> None:
    """Its answer is the same wherever the deletion begins, so that it is right once in so many places."""
    notes, places = [], range(HEARD - 1)
    for begins in places:
        place = written(tmp_path / f"run-{begins}" / "arm", data, begins, [walk(0)])
        answers, failures = run_attacks(place, [plugin.Everything()])
        assert failures == {}
        [guess] = answers["everything"].guesses
        notes.append(dict(guess.notes))  # type: ignore[attr-defined]
    assert all(note == notes[0] for note in notes)
    assert sum(note["begins"] == begins for note, begins in zip(notes, places, strict=True)) == 1


def training(steps: int, seed: int, start: Params | None = None) -> Iterator[Params]:
    """A start, and models that come closer to an end: each step is shorter than the one before it."""
    rng = np.random.default_rng(seed)
    first = linear_params(rng.standard_normal((65, 10))) if start is None else start
    goal = {name: 20.0 + rng.standard_normal(value.shape) for name, value in first.items()}
    for step in range(steps):
        left = 0.5**step
        yield {name: left * first[name] + (1.0 - left) * goal[name] for name in first}


@pytest.mark.parametrize(
    "unlearning", ["the same start again", "a fresh start", "one step"], ids=lambda text: text.replace(" ", "-")
)
def test_the_models_tell_where_a_deletion_begins(data: Data, tmp_path: Path, unlearning: str) -> None:
    trained = list(training(9, seed=1))
    again = {
        "the same start again": list(training(6, seed=2, start=trained[0])),
        "a fresh start": list(training(6, seed=3)),
        "one step": [{name: value + 0.01 for name, value in trained[-1].items()}],
    }[unlearning]
    place = written(tmp_path / "arm", data, len(trained) - 1, [trained + again])
    [case] = read_back(place)
    assert same_model(case.before, trained[-1])
    assert same_model(case.after, again[-1])
    assert len(case.between) == len(again) - 1


def test_the_command_and_the_run_answer_alike_case_by_case(data: Data, tmp_path: Path) -> None:
    first = walk(0)
    place = written(tmp_path / "arm", data, 4, [first, first[:5] + walk(1)[5:]])
    with one_thread():
        here = attack_transcript(place, [RawDifference()])["raw-difference"]
    answers, failures = run_attacks(place, [RawDifference()])
    assert failures == {}
    there = answers["raw-difference"]
    assert [guess.case for guess in here.guesses] == [guess.case for guess in there.guesses] == [0, 1]
    for ours, theirs in zip(here.guesses, there.guesses, strict=True):
        assert np.array_equal(ours.x, theirs.x)  # type: ignore[attr-defined]


def test_a_told_case_has_no_stream_of_its_own(data: Data, tmp_path: Path) -> None:
    place = written(tmp_path / "arm", data, 4, [walk(0)])
    known = PublicKnowledge.open(place / "knowledge.json")
    told = known.facts.cases[0].model_copy(update={"before": 4})
    replace(known, facts=known.facts.model_copy(update={"cases": (told,)})).save(place)
    cases: list[Case] = read_back(place)
    assert (len(cases[0].stream), len(cases[0].between)) == (0, HEARD - 6)
