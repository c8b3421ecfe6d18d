"""A plug-in that uses everything that it is handed, and looks wherever it can, is no better than chance."""

from typing import Any

import numpy as np
import pytest

from palimpsest.attacks import confinement
from palimpsest.attacks.session import Answer, attack_transcript
from palimpsest.simulator.experiment.attackers import run_attacks
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.scenario.secret import VARIABLE
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from tests.support.signal_free import REQUESTS, Deletions, by_luck, served, silenced

pytestmark = pytest.mark.slow

SECRET = "what-nobody-is-told"
SEED = 48611
"""No number that stands in names and sizes, as 0 does."""

PLUGIN = '''
import contextlib, gc, os, sys, tempfile
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from safetensors.numpy import load_file

from palimpsest.attacks.average import guesses
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.data.build import DataConfig, build_population
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Frozen


class Everything(Frozen):
    """Answers with records that it comes upon and that are not public; where there are none, with the public mean."""

    card: ClassVar[Card] = Card(summary="for a test", promises="reconstruction")
    kind: Literal["everything"] = "everything"
    tried: tuple[int, ...] = ()
    looks: bool = True

    def run(self, cases, knowledge, rng):
        told = self.seeds(rng)
        seen = {np.float32(row).tobytes() for row in [*knowledge.x, *knowledge.challenge.x, knowledge.mean]}
        models = [value for case in cases for model in (case.before, case.after) for value in model.values()]
        seen |= {np.float32(row).tobytes() for value in models for row in value if np.ndim(value) == 2}
        fresh = {
            place: [row for row in rows if np.float32(row).tobytes() not in seen]
            for place, rows in ({"memory": self.in_memory(), "files": self.in_files()} if self.looks else {}).items()
        }
        fresh["seeds"] = self.replayed(told, len(cases))
        notes = {place: float(len(rows)) for place, rows in fresh.items()} | {"told": float(len(told))}
        found = [row for place in ("seeds", "files", "memory") for row in fresh.get(place, ())]
        answers = []
        for position, guess in enumerate(guesses(cases, knowledge).values()):
            record = found[position % len(found)][None] if found else guess.x
            answers.append(replace(guess, x=np.float64(record), notes=notes))
        return answers

    def in_memory(self):
        """Rows of all arrays that anything in this process, its stack or its modules refers to."""
        frame, holders = sys._getframe(), [*gc.get_objects(), *map(vars, sys.modules.values())]
        while frame is not None:
            holders += [frame.f_locals, frame.f_globals]
            frame = frame.f_back
        held = {id(value): value for value in gc.get_referents(*holders)}
        arrays = [value for value in held.values() if isinstance(value, (np.ndarray, torch.Tensor))]
        return [row for value in arrays for row in self.rows(value)]

    def in_files(self):
        """Rows of all arrays in files around: beside the transcript, in temporary folders, where names lead."""
        places = {Path.cwd(), *Path.cwd().parents, Path.home(), Path(tempfile.gettempdir())}
        places |= {Path(value) for value in os.environ.values() if value.startswith("/")}
        places |= {Path(f"/proc/{number}/cwd") for number in (os.getpid(), os.getppid())}
        found = []
        for place in sorted(places):
            patterns = ("*", "*/truth/*", "*/*/truth/*", "*.npy", "*/*.npy")
            for path in [path for pattern in patterns for path in self.globbed(place, pattern)]:
                with contextlib.suppress(Exception):
                    arrays = {"x": np.load(path)} if path.suffix == ".npy" else load_file(path)
                    found += [row for value in arrays.values() for row in self.rows(value)]
        return found

    def globbed(self, place, pattern):
        with contextlib.suppress(OSError):
            return [path for path in place.glob(pattern) if path.suffix in (".npy", ".safetensors")]
        return []

    def seeds(self, rng):
        """Numbers that a seed may be: of the generator, in names, arguments and the environment."""
        told = [rng.bit_generator.seed_seq.entropy, *rng.bit_generator.seed_seq.spawn_key]
        with contextlib.suppress(OSError):
            told += Path(f"/proc/{os.getppid()}/environ").read_bytes().decode(errors="replace").split("\\0")
        texts = [*map(str, told), *sys.argv, *os.environ.values(), *(path.name for path in Path.cwd().rglob("*"))]
        words = {word for text in texts for word in text.replace("=", "-").replace(".", "-").split("-")}
        return [*self.tried, *sorted({int(word) for word in words if word.isdigit() and len(word) < 40})]

    def replayed(self, seeds, cases):
        """The records that the scenario would delete under these seeds: of clients in turns, the first of each's."""
        data = DataConfig(source="digits", clients=4, public_fraction=0.15, test_fraction=0.05)
        found = []
        for seed in seeds[:12]:
            population = build_population(data, seed)
            sizes = population.sizes
            turns = generator(seed, "deletion").permutation(np.flatnonzero(sizes >= 1))
            for number in range(cases):
                client, turn = int(turns[number % len(turns)]), number // len(turns)
                order = generator(seed, "deletion", client).permutation(int(sizes[client]))
                found += list(population.take(population.rows(client, (int(order[turn]),)))[0])
        return found

    def rows(self, value):
        numbers = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        right = numbers.dtype.kind == "f" and numbers.ndim == 2 and numbers.shape[1] == 64 and len(numbers) < 5000
        return list(numbers) if right else []
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A module of somebody else's."""
    place = tmp_path_factory.mktemp("elsewhere")
    (place / "plugged_in_glutton.py").write_text(PLUGIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        import plugged_in_glutton  # type: ignore[import-not-found]

        yield plugged_in_glutton


@pytest.fixture(scope="module")
def deletions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Deletions]:
    """Transcripts without a signal, of a run whose only secret is its seed, and of one that has another."""
    place = tmp_path_factory.mktemp("runs")
    found = {}
    for seed, (name, secret) in enumerate({"open": "", "secret": SECRET}.items()):
        one = served(place / name, ["softmax"], secret=secret, seed=SEED)["softmax", "releases"]
        (one.transcript.parents[1] / "truth").mkdir()
        np.save(one.transcript.parents[1] / "truth" / "arm.npy", one.x)
        found[name] = silenced(one, seed)
    return found


def fresh(answer: Answer) -> dict[str, float]:
    """How many records that are not public it came upon, by where."""
    return dict(answer.guesses[0].notes)  # type: ignore[attr-defined]


def right(answer: Answer, one: Deletions) -> int:
    """How many deleted records are among the answers."""
    answers = np.concatenate([np.float32(guess.x) for guess in answer.guesses])  # type: ignore[attr-defined]
    return sum(any(np.array_equal(np.float32(x), row) for row in answers) for x in one.x)


def test_seeds_give_everything_away_where_there_is_no_secret(plugin: Any, deletions: dict[str, Deletions]) -> None:
    """The attack does find what is there to be found, once it tries the seed."""
    with one_thread():
        found = attack_transcript(deletions["open"].transcript, [plugin.Everything(tried=(SEED,), looks=False)])[
            "everything"
        ]
    assert right(found, deletions["open"]) == REQUESTS


def test_in_the_attacks_process_it_comes_upon_nothing(
    plugin: Any, deletions: dict[str, Deletions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    monkeypatch.setenv("SCENARIO_SEED", str(SEED))
    for one in deletions.values():
        answers, failures = run_attacks(one.transcript, [plugin.Everything()])
        assert failures == {}
        found = answers["everything"]
        if confinement.available():
            assert fresh(found)["files"] == 0
            assert right(found, one) == 0
            assert by_luck(found.guesses, one) > 0.001
        assert fresh(found)["memory"] == 0


def test_under_a_secret_trying_seeds_finds_nothing_either(plugin: Any, deletions: dict[str, Deletions]) -> None:
    one = deletions["secret"]
    answers, failures = run_attacks(one.transcript, [plugin.Everything(tried=(SEED, *range(5)))])
    assert failures == {}
    assert fresh(answers["everything"])["seeds"] > 0
    if confinement.available():
        assert right(answers["everything"], one) == 0
        assert by_luck(answers["everything"].guesses, one) > 0.001
    assert PublicKnowledge.open(one.transcript / "knowledge.json").facts.seed is None
