"""What can be known when a scenario is loaded is refused then: exit 2, one sentence, no directory left.

And a training that diverges is told what to change, not to go on.
"""

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from palimpsest.server.algorithms.lbfgs import NotConvergedError
from palimpsest.server.algorithms.step import DivergedError
from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.cli.console import recoverable
from palimpsest.simulator.experiment.begun import new_directory
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.world.errors import RunFailure, SettledFailure
from tests.support.scenarios import small_scenario

BASE = """
name = "late"
data = { source = "digits", clients = 6 }
training = { clients_per_round = 3, rounds = 3 }
deletion = { requests = 2 }
runtime = { backend = "serial" }
unlearning = [{ method = "retrain" }]
"""
RAY = "runtime.backend=ray"
KNOWN = {
    "runtime.device = 'cuda', and PyTorch finds no GPU": ["runtime.device=cuda"],
    "nothing answers at runtime.ray_address = '127.0.0.1:9'": ["runtime.ray_address=127.0.0.1:9", RAY],
    "nothing answers at runtime.ray_address = 'nowhere.invalid:6379'": [
        "runtime.ray_address=nowhere.invalid:6379",
        RAY,
    ],
    'runtime.ray_address = "127.0.0.1:99999999": must be host:port': ["runtime.ray_address=127.0.0.1:99999999", RAY],
    'runtime.ray_address = "127.0.0.1:0": must be host:port': ["runtime.ray_address=127.0.0.1:0", RAY],
    "runtime.sites = 7: there are 6 clients": ["runtime.sites=7"],
    "adversary.public_records = 100000: the public sample has": ["adversary.public_records=100000"],
    "variant.name = 'b': it differs from the variant 'a'": ['variant=[{name="a"},{name="b"}]'],
    "deletion.request.1 is request.0 again": ['deletion={level="label",request=[{label=3},{label=3}]}'],
    "deletion.request.2 is request.1 again": [
        'deletion={level="client",request=[{client=0},{client=1,round=2},{client=1,round=2}]}'
    ],
    "seeds = 1 is there twice": ["seeds=[0,1,1]"],
    'name = "aaa': [f"name={'a' * 300}"],
    'variant.0.name = "aaa': [f'variant=[{{name="{"a" * 300}"}}]'],
    "training.stop.max_evaluations = 1: must be at least 2": [
        "training.algorithm=lbfgs",
        "training.stop.max_evaluations=1",
    ],
    "data.partition.alpha = 1e-300: must be at least": ["data.partition.alpha=1e-300"],
    "data.partition.alpha = 1e+300: must be at most": ["data.partition.alpha=1e300"],
}


@pytest.mark.parametrize("said", KNOWN)
def test_it_is_refused_when_it_is_loaded(said: str, tmp_path: Path) -> None:
    if "GPU" in said and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    (tmp_path / "late.toml").write_text(BASE)
    changes = [part for change in KNOWN[said] for part in ("--set", change)]
    done = CliRunner().invoke(cli.app, ["run", str(tmp_path / "late.toml"), *changes, "--out", str(tmp_path / "run")])
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("training", "error"),
    [
        ({"learning_rate": 1e30}, DivergedError),
        ({"algorithm": "lbfgs", "stop": {"max_evaluations": 2}}, NotConvergedError),
    ],
)
def test_a_run_that_would_stop_at_the_same_place_again_says_what_to_change(
    training: dict[str, object], error: type[SettledFailure], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = small_scenario(training=training)
    directory = new_directory(scenario, tmp_path / "run")
    with pytest.raises(error) as failed:
        simulate(scenario, prepare(scenario), directory.path, SerialGrid(1))
    with pytest.raises(typer.Exit) as ended, recoverable(directory.path):
        raise failed.value
    assert ended.value.exit_code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "palimpsest resume" not in said and "Traceback" not in said
    assert f"palimpsest run {directory.scenario_file} --set KEY=VALUE --out NEW" in said
    assert "learning rate" in said or "max_evaluations" in said


def test_how_to_go_on_names_the_directory_above_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reason that ends with a full stop ends with one; a path with two dots keeps both."""
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    new_directory(small_scenario(), tmp_path / "run")
    with pytest.raises(typer.Exit), recoverable(Path("../run")):
        raise RunFailure("the disk is full.")
    said = " ".join(capsys.readouterr().err.split())
    assert said == (
        "error: the run failed: the disk is full. What is done so far is in ../run; go on with: "
        "palimpsest resume ../run"
    )
