"""SQLite stores that are locked, read-only or full: one sentence in seconds, no table lost, and sent later, once."""

import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.tracking import writable
from palimpsest.simulator.tracking.store import store_file
from palimpsest.simulator.tracking.upload import Connection, track
from tests.support.fabricated import WAYS, digits, make_run
from tests.support.stores import new_store, runs_of

pytestmark = pytest.mark.mlflow
NOBODY = 65534


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", {"": digits()}, ways=WAYS[:1], deletions=4)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(writable, "PATIENCE", 0.5)
    return new_store(tmp_path / "store")


@contextmanager
def locked(store: str) -> Iterator[None]:
    """Another connection that lets nobody else read or write."""
    file = store_file(store)
    assert file is not None
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.execute("ROLLBACK")


def is_there_once(store: str, run: Path) -> None:
    assert track(run, store).ok
    client = MlflowClient(store)
    experiments = [one.experiment_id for one in client.search_experiments()]
    assert len(client.search_runs(experiments)) == 2 == len(runs_of(client, run))


def test_a_store_that_stays_locked_is_refused_before_a_run(store: str, tmp_path: Path) -> None:
    with locked(store):
        arguments = ["run", "--set", f"tracking.uri={store}", "--out", str(tmp_path / "new")]
        done = CliRunner().invoke(cli.app, arguments)
    assert (done.exit_code, done.stderr.count("\n"), (tmp_path / "new").exists()) == (2, 1, False), done.output
    assert "another process keeps it locked" in done.stderr


def test_a_store_that_is_locked_afterwards_loses_nothing(store: str, run: Path) -> None:
    with locked(store):
        began = time.monotonic()
        done = CliRunner().invoke(cli.app, ["report", str(run), "--track"], env={"MLFLOW_TRACKING_URI": store})
        assert time.monotonic() - began < 60
    assert done.exit_code == 1, done.output
    [line] = [line for line in done.stdout.splitlines() if line.startswith("not tracked")]
    assert "another process keeps it locked" in line and f"palimpsest report {run} --track" in line
    is_there_once(store, run)


def test_a_store_that_is_locked_in_between_is_taken_up_again(store: str, run: Path) -> None:
    connection = Connection(RunDirectory(run), store)
    with locked(store):
        assert isinstance(connection.go_on(), writable.StoreFault)
    assert connection.go_on() is None
    assert connection.end("FINISHED").ok
    is_there_once(store, run)


FULL = """
import resource, signal, sys
from pathlib import Path
from palimpsest.simulator.tracking.upload import track
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (Path(sys.argv[3]).stat().st_size, resource.RLIM_INFINITY))
print(track(Path(sys.argv[1]), sys.argv[2]).message)
"""


def test_a_store_that_fills_up_is_filled_later(store: str, run: Path) -> None:
    command = [sys.executable, "-c", FULL, str(run), store, str(store_file(store))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done
    assert "make room" in done.stdout and f"palimpsest report {run} --track" in done.stdout
    is_there_once(store, run)


ASK = """
import os, sys
from pathlib import Path
from palimpsest.simulator.tracking.writable import StoreFault, check_writable
if os.geteuid() == 0:  # root may write everywhere
    os.setuid(int(sys.argv[2]))
try:
    check_writable(Path(sys.argv[1]))
except StoreFault as fault:
    print(fault)
"""


def test_a_store_that_may_not_be_written_to_says_so() -> None:
    with tempfile.TemporaryDirectory() as place:  # anybody may look into it, as into no folder above tmp_path
        file = store_file(new_store(Path(place) / "store"))
        assert file is not None
        file.chmod(0o444)
        file.parent.chmod(0o555)
        Path(place).chmod(0o755)
        command = [sys.executable, "-c", ASK, str(file), str(NOBODY)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("this user may not write to it, or its disk is read-only")
