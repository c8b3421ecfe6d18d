"""``palimpsest ui``: where it sends the user, and that its server ends with it. Real processes."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from palimpsest.simulator.tracking.store import experiment_of, masked, store_of
from palimpsest.simulator.tracking.ui import PortBusyError, check_port
from palimpsest.simulator.tracking.upload import track
from tests.support.fabricated import WAYS, digits, make_run
from tests.support.stores import new_store

pytestmark = pytest.mark.mlflow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a store that holds one run."""
    place = tmp_path_factory.mktemp("ui")
    run = make_run(place / "the-run", {"": digits()}, ways=WAYS[:1], deletions=8)
    assert track(run, new_store(place)).ok
    return place


def test_a_busy_port_is_an_error_that_names_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(PortBusyError, match=rf"port {port} .*--port"):
            check_port(port)
    check_port(port)


@pytest.mark.slow
def test_a_busy_port_ends_the_command_with_2(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as busy:
        command = [sys.executable, "-m", "palimpsest.simulator", "ui", "--port", str(busy.getsockname()[1])]
        ended = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--port" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_it_opens_the_newest_runs_on_loopback_and_whatever_ends_it_ends_its_server(
    place: Path, ending: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "palimpsest.simulator", "ui", "--port", str(port)]
    process = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = next(line for line in process.stderr if line.startswith("open "))
    page = re.search(r"http://127.0.0.1:(\d+)/#/experiments/(\w+)/runs\?viewStateShareKey=(\w+)", said)
    assert page is not None, said
    experiment = MlflowClient(f"sqlite:///{place}/mlflow.db").get_experiment(page[2])
    assert experiment.name == "fabricated"
    assert f"mlflow.sharedViewState.{page[3]}" in experiment.tags
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.status == 200
    children = psutil.Process(process.pid).children(recursive=True)
    assert {entry.laddr.ip for child in children for entry in child.net_connections() if entry.status == "LISTEN"} == {
        "127.0.0.1"
    }
    os.kill(process.pid, ending)
    process.communicate()
    gone, left = psutil.wait_procs(children, timeout=30)
    assert not left, (gone, left)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)
    assert process.returncode == (-9 if ending == signal.SIGKILL else 0)


def test_mlflows_own_variables_are_honoured_and_ours_come_first(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{tmp_path}/named.db"
    shutil.copy(place / "mlflow.db", tmp_path / "named.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "my hospitals")
    assert (store_of(""), store_of("sqlite:///x.db"), experiment_of("small")) == (
        store,
        f"sqlite:///{Path.cwd()}/x.db",
        "my hospitals",
    )
    run = make_run(tmp_path / "run", {"": digits()}, ways=WAYS[:1], deletions=8)
    assert track(run).ok
    assert MlflowClient(store).get_experiment_by_name("my hospitals") is not None


def test_passwords_are_masked_in_all_that_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"": digits()}, ways=WAYS[:1], deletions=8)
    for uri in ("http://me:s3cr@t@127.0.0.1:9", "postgresql://127.0.0.1:9/x?user=me&password=s3cr@t"):
        tracked = track(run, uri)
        assert not tracked.ok
        assert "s3cr" not in tracked.message + tracked.uri
    assert masked("http://host/?viewStateShareKey=palimpsest") == "http://host/?viewStateShareKey=palimpsest"
    assert not [path for path in run.rglob("*") if path.is_file() and b"s3cr" in path.read_bytes()]
