"""The same scenario through Flower's own runtime: ``flwr run .`` on a SuperLink of this machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.scenario.load import load_scenario

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]

PROJECT = Path(__file__).parents[2]
CHANGES = [
    "data.source=digits",
    "data.clients=8",
    "deletion.requests=2",
    "training.rounds=2",
    "training.clients_per_round=4",
]


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A SuperLink in simulation mode on a free port of the loopback, and the environment that finds it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    home = tmp_path / "flwr"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    beside_python = str(Path(sys.executable).parent)
    environment = os.environ | {"FLWR_HOME": str(home), "PATH": f"{beside_python}:{os.environ['PATH']}"}
    command = ["flower-superlink", "--insecure", "--simulation", "--disable-runtime-dependency-installation"]
    with (tmp_path / "superlink.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", port],
            env=environment,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait_for(port)
            yield environment
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)


def test_flwr_run_gives_the_digests_of_the_serial_twin(tmp_path: Path, superlink: dict[str, str]) -> None:
    out = tmp_path / "through-flower"
    changes = [*CHANGES, f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"]
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns(".git", "runs", "mlruns", "*.db", "tests"))
    settings = f"scenario='mnist-deletions' set='{' '.join(changes)}' out='{out}'"
    command = ["flwr", "run", str(project), "--federation-config", "num-supernodes=2", "--run-config", settings]
    done = subprocess.run([*command, "--stream"], env=superlink, timeout=240, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    deadline = time.monotonic() + 60
    while not (out / "tracking.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.5)
    through_flower = json.loads((out / "results.json").read_text())

    (tmp_path / "serial").mkdir()
    scenario = load_scenario("mnist-deletions", CHANGES)
    serial = simulate(scenario, prepare(scenario), tmp_path / "serial", SerialGrid(1))
    assert _digests(through_flower) == _digests(serial)


def _digests(results: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {arm["arm"]: arm["transcript_digest"] for arm in results["arms"]}


def _wait_for(port: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"no SuperLink on port {port}")
