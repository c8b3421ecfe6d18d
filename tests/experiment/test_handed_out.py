"""A challenge for strangers, by the commands: handed out without the truth, answered, and scored where the truth is."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.scenario.load import dump_toml
from palimpsest.simulator.scenario.secret import VARIABLE
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import Transcript
from tests.support.scenarios import small_scenario, untracked

pytestmark = pytest.mark.slow

SECRET = "nobody-else-knows-this"
NAME = "the-tell-tale-name"
REQUESTS = 5
FIGURES = (("hrec", "cosine_centred_median"), ("hrec", "top1_of_1000"), ("candidate-match", "rank_median"))


def finished(place: Path, secret: str = SECRET, **changes: Any) -> Path:
    base: dict[str, Any] = {
        "name": NAME,
        "seeds": [3],
        "deletion": {"requests": REQUESTS},
        "unlearning": [{"method": "ascent", "learning_rate": 0.1}, {"method": "retrain", "coupling": "same-order"}],
        "attack": [{"kind": "hrec"}, {"kind": "candidate-match"}],
        "privacy": {"secret": secret},
    }
    return untracked(small_scenario(**base | changes), place).path


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("run") / "out")


@pytest.fixture(scope="module")
def withheld(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("withheld") / "out", adversary={"knows_bracket": False})


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)


def called(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def handed(directory: Path, out: Path) -> list[Path]:
    done = called("challenge", directory, "--out", out)
    assert done.exit_code == 0, done.output
    places = sorted(out.iterdir())
    assert done.stdout.splitlines() == [f"written: {place}" for place in places]
    return places


def answered(transcript: Path, out: Path, *attacks: str) -> Path:
    """A stranger at work, who has the directory alone."""
    done = called("attack", transcript, "--out", out, *(part for name in attacks for part in ("--attack", name)))
    assert done.exit_code == 0, done.output
    return out


def scored(directory: Path, transcript: Path, answers: Path) -> dict[str, Any]:
    done = called("score", directory, "--transcript", transcript.name, "--answers", answers)
    assert done.exit_code == 0, done.output
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def method_of(transcript: Path) -> str:
    return str(PublicKnowledge.open(transcript / "knowledge.json").facts.unlearning["method"])


def test_a_strangers_answers_score_as_the_runs_own(directory: Path, tmp_path: Path) -> None:
    own = {arm.to_json()["unlearning"]["method"]: arm.to_json()["attacks"] for arm in RunFiles.open(directory).arms}
    places = handed(directory, tmp_path / "puzzles")
    assert sorted(map(method_of, places)) == ["ascent", "retrain"]
    for place in places:
        answers = answered(place, tmp_path / f"{place.name}.safetensors", "hrec", "candidate-match")
        found = scored(directory, place, answers)
        for kind, figure in (
            ("hrec", "cosine_centred_median"),
            ("hrec", "top1_of_1000"),
            ("candidate-match", "rank_median"),
        ):
            assert found[kind][figure] == pytest.approx(own[method_of(place)][kind][figure], abs=1e-9), (kind, figure)


def numbered(count: int) -> list[str]:
    return [f"releases/{number:06d}.safetensors" for number in range(count)]


def test_nothing_that_is_handed_out_tells_names_order_or_truth(directory: Path, tmp_path: Path) -> None:
    first, second = (handed(directory, tmp_path / name) for name in ("one", "two"))
    assert not {place.name for place in first} & {place.name for place in second}
    truths = [load_file(path)["x"].astype(np.float64) for path in (directory / "truth").iterdir()]
    orders = []
    for place in [*first, *second]:
        files = [path for path in place.rglob("*") if path.is_file()]
        assert {path.stat().st_mtime for path in (*files, place)} == {0.0}
        assert {path.name for path in place.iterdir()} == {
            "releases", "releases.jsonl", "knowledge.json", "knowledge.safetensors", "challenge.safetensors",
        }  # fmt: skip
        told = b"".join(path.read_bytes() for path in files)
        for word in (NAME, SECRET, "seed3", '"seed":3', *(arm.name for arm in (directory / "arms").iterdir())):
            assert word.encode() not in told, word
        known, transcript = PublicKnowledge.open(place / "knowledge.json"), Transcript.open(place)
        assert not any(np.array_equal(row, other) for truth in truths for row in truth for other in known.x)
        assert [view.after for view in known.facts.cases] == sorted(view.after for view in known.facts.cases)
        assert [line.file for line in transcript.heard] == [
            f"releases/{i:06d}.safetensors" for i in range(len(files) - 4)
        ]
        arm = next(path for path in (directory / "transcripts").iterdir() if method_of(path) == method_of(place))
        original = [view.after for view in PublicKnowledge.open(arm / "knowledge.json").facts.cases]
        digests = [Transcript.open(arm).heard[after].sha256 for after in original]
        orders.append([digests.index(transcript.heard[view.after].sha256) for view in known.facts.cases])
    assert all(sorted(order) == list(range(REQUESTS)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_without_the_bracket_every_deletion_is_a_transcript_of_its_own(withheld: Path, tmp_path: Path) -> None:
    places = handed(withheld, tmp_path / "puzzles")
    assert len(places) == 2 * REQUESTS
    cosines = []
    for place in places:
        transcript, known = Transcript.open(place), PublicKnowledge.open(place / "knowledge.json")
        assert {(line.branch, line.round, line.phase) for line in transcript.heard} == {(0, None, None)}
        assert [view.before for view in known.facts.cases] == [None]
        assert "rounds" not in known.facts.training
        if method_of(place) == "ascent":
            answers = answered(place, tmp_path / f"{place.name}.safetensors", "hrec")
            cosines.append(scored(withheld, place, answers)["hrec"]["cosine_centred_median"])
    own = next(arm for arm in RunFiles.open(withheld).arms if arm.to_json()["unlearning"]["method"] == "ascent")
    assert np.median(cosines) == pytest.approx(own.to_json()["attacks"]["hrec"]["cosine_centred_median"], abs=1e-9)


def spoiled(answers: Path, out: Path, kind: str) -> Path:
    arrays, metadata = load_file(answers), {"answers": '{"hrec": "reconstruction"}'}
    if kind == "a case is missing":
        arrays = {name: value[:-1] for name, value in arrays.items()}
    elif kind == "records of another width":
        arrays["hrec/x"] = np.ascontiguousarray(arrays["hrec/x"][:, 1:])
    elif kind == "a NaN":
        arrays["hrec/x"][0, 0] = np.nan
    elif kind == "no field":
        del arrays["hrec/y"]
    elif kind == "no kind":
        metadata = {"answers": "\x1b[2J"}
    elif kind == "another kind":
        metadata = {"answers": '{"hrec": "\\u001b[2J"}'}
    elif kind == "a FIFO":
        os.mkfifo(out)
        return out
    save_file(arrays, out, metadata)
    return out


@pytest.mark.parametrize(
    "kind",
    ["a case is missing", "records of another width", "a NaN", "no field", "no kind", "another kind", "a FIFO"],
)
def test_answers_that_are_none_are_one_sentence(directory: Path, tmp_path: Path, kind: str) -> None:
    place = handed(directory, tmp_path / "puzzles")[0]
    answers = answered(place, tmp_path / "right.safetensors", "hrec")
    wrong = spoiled(answers, tmp_path / "wrong.safetensors", kind)
    done = called("score", directory, "--transcript", place.name, "--answers", wrong)
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


def test_what_would_give_itself_away_is_not_handed_out(directory: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "puzzles")
    for secret, said in (("", "whoever tries seeds finds everything"), ("random", "nobody could score the answers")):
        results = json.loads((directory / "results.json").read_text()) | ({"secret": secret} if secret else {})
        if not secret:
            del results["secret"]
        other = tmp_path / (secret or "none")
        other.mkdir()
        (other / "results.json").write_text(json.dumps(results))
        (other / "scenario.toml").write_text(dump_toml(small_scenario()))
        refused = called("challenge", other, *out)
        assert (refused.exit_code, said in refused.stderr) == (2, True), refused.output
    assert not (tmp_path / "puzzles").exists()
    unknown = called("score", directory, "--transcript", "00000000", "--answers", tmp_path / "x")
    assert (unknown.exit_code, "handed out no transcript '00000000'" in unknown.stderr) == (2, True)
    neither = called("score", directory)
    assert (neither.exit_code, "give --attack, or --answers" in neither.stderr) == (2, True)
