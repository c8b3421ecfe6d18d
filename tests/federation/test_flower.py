"""The same scenario through Flower's own runtime: ``flwr run .`` on a SuperLink of this machine."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.scenario.load import load_scenario
from tests.support.stores import new_store
from tests.support.superlink import superlink

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]

PROJECT = Path(__file__).parents[2]
CHANGES = [
    "data.source=digits",
    "data.clients=8",
    "deletion.requests=2",
    "training.rounds=2",
    "training.clients_per_round=4",
]


def test_flwr_run_gives_the_digests_of_the_serial_twin(tmp_path: Path) -> None:
    out = tmp_path / "through-flower"
    changes = [*CHANGES, f"tracking.uri={new_store(tmp_path)}"]
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns(".git", "runs", "mlruns", "*.db", "tests"))
    settings = f"scenario='mnist-deletions' set='{' '.join(changes)}' out='{out}'"
    command = ["flwr", "run", str(project), "--federation-config", "num-supernodes=2", "--run-config", settings]
    with superlink(tmp_path, {}) as environment:
        done = subprocess.run([*command, "--stream"], env=environment, timeout=240, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        deadline = time.monotonic() + 60
        while not (out / "tracking.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.5)
    through_flower = json.loads((out / "results.json").read_text())

    (tmp_path / "serial").mkdir()
    bare = ["attack=[{kind='average'}]", "evaluation.retrainings=0"]  # transcripts depend on neither
    scenario = load_scenario("mnist-deletions", [*CHANGES, *bare])
    serial = simulate(scenario, prepare(scenario), tmp_path / "serial", SerialGrid(1))
    assert _digests(through_flower) == _digests(serial)


def _digests(results: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {arm["arm"]: arm["transcript_digest"] for arm in results["arms"]}
