"""The command: what it prints, what it imports, and how it ends."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.experiment import runner
from palimpsest.simulator.experiment.result import Result
from palimpsest.simulator.results.schema import RunResults
from palimpsest.simulator.tracking.upload import Tracked
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.events import Observer, RoundDone, StageBegan
from palimpsest.simulator.world.protocols.knowledge import CaseView, Facts, PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import TranscriptWriter
from palimpsest.simulator.world.records import Release
from palimpsest.simulator.world.specs import ModelSpec, Schema
from tests.support.fabricated import WAYS, digits, make_run

pytestmark = pytest.mark.mlflow

HEAVY = ("torch", "ray", "mlflow", "flwr", "pandas", "matplotlib", "sklearn")


def palimpsest(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process: exit code, stdout, stderr with line breaks as blanks."""
    found = CliRunner().invoke(cli.app, arguments)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, " ".join(found.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "--help"]])
def test_help_and_list_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from palimpsest.simulator.cli.main import app\n"
        "try: app(sys.argv[1:])\n"
        f"except SystemExit as end: print('LOADED', [m for m in {HEAVY!r} if m in sys.modules], end.code)"
    )
    found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "LOADED [] 0"


def test_telemetry_is_off_unless_the_user_set_it() -> None:
    code = (
        "import os, palimpsest.simulator.cli.main;"
        "print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    )
    environment = {"PATH": "", "DO_NOT_TRACK": "chosen"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.split() == ["true", "chosen"]


def test_list_names_every_kind() -> None:
    code, out, _ = palimpsest("list")
    assert code == 0
    for word in ("mnist-deletions", "mnist5k", "softmax", "downdate", "hrec", "none"):
        assert word in out
    assert "hrec" not in palimpsest("list", "unlearning")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "no-such-scenario"], "no-such-scenario"),
        (["run", "--set", "data.clients=-3"], "data.clients = -3"),
        (["run", "--set", "data.source=nowhere.npz"], "nowhere.npz"),
        (["plan", "--set", "no.such.key=1"], "no"),
        (["resume", "nowhere"], "nowhere holds no run"),
        (["report", "nowhere"], "nowhere holds no finished run"),
        (["attack", "nowhere", "--attack", "hrec"], "nowhere is no transcript"),
        (["attack", "nowhere", "--attack", "hrek"], "did you mean 'hrec'"),
        (["list", "horses"], "horses"),
        (["ui"], "no tracking store"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = palimpsest(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_usage_errors_end_with_2() -> None:
    assert palimpsest("run", "--no-such-option")[0] == 2
    assert palimpsest("attack", "somewhere")[0] == 2


@dataclass
class FakeRun:
    """Stands in for the runner: leaves a fabricated run, or fails."""

    failure: BaseException | None = None
    begun: bool = False

    def __call__(self, scenario: Any, out: Path, observer: Observer, yes: bool = False) -> Result:
        observer.stage_began(StageBegan("Training", 3, "rounds"))
        for round in (0, 1):
            observer.round_done(RoundDone("seed 0", "", 0, round, "training", 0.1))
        if self.begun:
            out.mkdir(parents=True)
            (out / "scenario.toml").touch()
        if self.failure is not None:
            raise self.failure
        make_run(out, {"": digits()}, ways=WAYS[:1], deletions=8)
        results = RunResults.read(out / "results.json")
        return Result(out, results, Tracked(True, "tracked somewhere", "uri"))


def test_run_ends_with_the_table_and_the_place_of_every_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "run", FakeRun())
    code, out, err = palimpsest("run", "--out", str(tmp_path / "out"))
    assert code == 0
    assert "hrec" in out
    assert f"{tmp_path / 'out'}" in out
    assert "tracked somewhere" in out
    assert err.startswith("Training (1): ")


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    ("failure", "code"),
    [(KeyboardInterrupt(), 130), (RuntimeError("the moon fell"), 1), (RunFailure("the moon fell"), 1)],
)
def test_a_run_that_stops_says_how_to_go_on(
    failure: BaseException, code: int, begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run", FakeRun(failure, begun))
    found, out, err = palimpsest("run", "--out", str(tmp_path / "out"))
    assert (found, out) == (code, "")
    assert (f"palimpsest resume {tmp_path / 'out'}" in err) == begun
    assert ("the moon fell" in err) == (code == 1)
    assert ("Traceback" in err) == (type(failure) is RuntimeError)


@pytest.mark.parametrize("place", ["taken/file", "occupied"])
def test_an_unusable_place_is_refused_before_anything_starts(place: str, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "something").touch()
    code, _, err = palimpsest("run", "--out", str(tmp_path / place), "--set", "data.source=digits")
    assert code == 2
    assert "--out" in err
    assert "Traceback" not in err


def test_report_draws_the_newest_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert palimpsest("report")[0] == 2
    make_run(tmp_path / "runs" / "only", {"": digits()}, ways=WAYS[:1], deletions=8)
    code, out, _ = palimpsest("report")
    assert code == 0
    assert "drawn: runs/only/figures/summary.png" in out
    assert (tmp_path / "runs" / "only" / "figures" / "summary.png").is_file()
    assert not (tmp_path / "mlflow.db").exists()


def test_report_uploads_when_asked_and_fails_when_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_run(tmp_path / "it", {"": digits()}, ways=WAYS[:1], deletions=8)
    with (place / "scenario.toml").open("a") as file:
        file.write('[tracking]\nuri = "http://127.0.0.1:9"\n')
    code, out, _ = palimpsest("report", str(place), "--track")
    assert code == 1
    assert "Nothing is lost" in out


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    """Two releases of a softmax model, one ascent step apart, and what the public knows."""
    source = digits()
    spec = ModelSpec(
        kind="softmax", task="classification", shape=(1, 8, 8), outputs=10, regularisation=1.0, dtype="float64"
    )
    before = model_of(spec).init(np.random.default_rng(0))
    x, y = source.x[0], int(source.y[0])
    scores = model_of(spec).predict(before, x[None])[0]
    residual = np.eye(10)[y] - np.exp(scores) / np.exp(scores).sum()
    after = {"weight": before["weight"] - 0.1 * np.outer(residual, x), "bias": before["bias"] - 0.1 * residual}
    writer = TranscriptWriter(tmp_path / "arm")
    writer.append(Release(0, 1, "training", before))
    writer.append(Release(1, 1, "unlearning", after), parent=0)
    facts = Facts(
        scenario="by hand", schema_=Schema(name="digits", task="classification", shape=(1, 8, 8), outputs=10,
        class_names=tuple("0123456789")), model=spec, n=1000, algorithm="fedsgd", training={"learning_rate": 0.1},
        unlearning={"method": "ascent", "learning_rate": 0.1}, operator="identity", step=0.1, preprocessing={},
        cases=(CaseView(before=0, after=1, size=1),),
    )  # fmt: skip
    public = PublicKnowledge(facts, source.x[100:400], source.y[100:400], np.zeros(64), np.ones(64))
    public.save(tmp_path / "arm")
    return tmp_path / "arm"


def test_attack_reconstructs_from_a_transcript_alone(transcript: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.safetensors"
    code, text, _ = palimpsest("attack", str(transcript), "--attack", "hrec", "--attack", "average", "--out", str(out))
    assert code == 0
    assert "deletion 0, class 0" in text
    assert "@@" in text  # a bright stroke
    answers = load_file(out)
    np.testing.assert_allclose(answers["hrec/x"][0], digits().x[0], atol=1e-6)  # one ascent step releases the record
    np.testing.assert_allclose(answers["average/x"][0], digits().x[100:400].mean(0), atol=1e-12)
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_attack_says_where_a_model_is_out_of_its_reach(transcript: Path) -> None:
    facts = json.loads((transcript / "knowledge.json").read_text())
    facts["model"]["kind"] = "cnn"
    (transcript / "knowledge.json").write_text(json.dumps(facts))
    code, _, err = palimpsest("attack", str(transcript), "--attack", "hrec")
    assert code == 2
    assert "hrec does not work on cnn" in err


def test_plan_counts_what_a_scenario_will_cost(tmp_path: Path) -> None:
    """Digits, softmax float32: a model has 650 parameters, 2,600 bytes; 3 rounds of 5 clients, 4 deletions.

    Retraining: 4 x 3 rounds, 4 x 3 x 5 updates; the transcript holds 4 trunk releases and 4 x 4 of branches: 52 kB.
    Ascent: one message a deletion; 4 trunk releases and one a branch. Finetuning: 2 rounds of 5 clients a deletion.
    """
    (tmp_path / "small.toml").write_text(
        'name = "small"\n[data]\nsource = "digits"\nclients = 10\n[model]\nkind = "softmax"\n'
        "[training]\nrounds = 3\nclients_per_round = 5\n[deletion]\nrequests = 4\n"
        '[[unlearning]]\nmethod = "retrain"\n[[unlearning]]\nmethod = "ascent"\n'
        '[[unlearning]]\nmethod = "finetune"\nrounds = 2\n'
    )
    code, out, _ = palimpsest("plan", str(tmp_path / "small.toml"))
    assert code == 0
    assert out.startswith("data      digits: 1,797 records, classification\n")
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if "--" in line}
    assert lines == {
        "retrain--none--seed0": ["12", "60", "<", "1", "s", "52", "kB"],
        "ascent--none--seed0": ["0", "4", "<", "1", "s", "20.8", "kB"],
        "finetune--none--seed0": ["8", "40", "<", "1", "s", "31.2", "kB"],
    }
