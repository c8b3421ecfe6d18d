"""Addresses of tracking stores: what can't be one is refused before a run, and each means one store for good."""

import os
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.tracking.store import address_of, check_store, lasting, store_file, store_of
from palimpsest.simulator.tracking.upload import Connection, track
from tests.support.fabricated import WAYS, digits, make_run

pytestmark = pytest.mark.mlflow

REFUSED = {
    "nonsense://x": "no kind of tracking store",
    "ftp://host/x": "no kind of tracking store",
    "postgres://host/x": "no kind of tracking store",
    "postgresql+nothing://host/x": "no address of a database",
    "mssql://host/x": "driver is not installed, the Python package 'pyodbc'",
    "mlruns": "sqlite:///FILE",
    "file:///somewhere": "sqlite:///FILE",
    "http://": "no address of a server",
    "http://host:99999999": "no address of a server",
    "http://ho st": "no address of a server",
    "http://[::1": "no address of a server",
    "sqlite://": "in memory",
    "sqlite:///": "in memory",
    "sqlite:///:memory:": "in memory",
    "sqlite:////dev/null/x.db": "cannot be made",
    "sqlite:////dev": "no file",
    "sqlite:///text.db": "no SQLite database",
    "sqlite:///other.db": "not MLflow's",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("text.db").write_text("no database " * 100)
    with sqlite3.connect("other.db") as database:
        database.execute("CREATE TABLE customers (name TEXT)")


@pytest.mark.parametrize("uri", REFUSED)
def test_what_cannot_be_a_store_is_refused_and_leaves_no_run(uri: str) -> None:
    for given, named in ((uri, f"tracking.uri = {uri!r}"), ("", f"MLFLOW_TRACKING_URI = {uri!r}")):
        os.environ["MLFLOW_TRACKING_URI"] = uri
        with pytest.raises(ScenarioError) as refusal:
            check_store(given)
        assert str(refusal.value).startswith(named) and REFUSED[uri] in str(refusal.value)
        assert "\n" not in str(refusal.value)
    del os.environ["MLFLOW_TRACKING_URI"]


@pytest.mark.parametrize("uri", ["", "http://127.0.0.1:9", "https://host/path", "databricks", "sqlite:///new/new.db"])
def test_what_may_be_a_store_is_not_refused(uri: str) -> None:
    check_store(uri)


def test_the_command_refuses_it_before_a_directory_is_made(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = CliRunner().invoke(cli.app, ["run", "--set", "tracking.uri=nonsense://x", "--out", str(out)])
    assert (done.exit_code, done.stderr.count("\n"), out.exists()) == (2, 1, False), done.output


def test_a_store_in_a_working_directory_is_meant_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two directories in one process, one after the other, and from elsewhere later."""
    for name in ("one", "two 100% %20"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run = make_run(tmp_path / name / "run", {"": digits()}, ways=WAYS[:1], deletions=4)
        tracked = track(Path("run"))
        assert tracked.ok, tracked.message
        RunDirectory(run).tracked.note_store(lasting(""))
        assert Path("mlflow.db").is_file() and Path("mlartifacts").is_dir()
        experiments = MlflowClient(store_of("")).search_runs(["1"])
        assert len([found for found in experiments if "mlflow.parentRunId" not in found.data.tags]) == 1
    monkeypatch.chdir(tmp_path)
    for same in ("", "sqlite:///mlflow.db"):
        assert track(tmp_path / "one" / "run", same).ok
        assert not (tmp_path / "mlflow.db").exists()
    assert track(tmp_path / "one" / "run", "sqlite:///another.db").ok
    assert Path("another.db").is_file()


@pytest.mark.parametrize("name", ["plain", "a b", "100%", "%20", "#1"])
def test_an_address_leads_to_its_file(tmp_path: Path, name: str) -> None:
    assert store_file(address_of(tmp_path / name / "x.db")) == tmp_path / name / "x.db"


def test_whatever_a_store_raises_is_one_sentence(tmp_path: Path) -> None:
    """A database whose schema is of a version that MLflow does not know."""
    run = make_run(tmp_path / "run", {"": digits()}, ways=WAYS[:1], deletions=4)
    MlflowClient("sqlite:///newer.db").search_experiments()
    with sqlite3.connect("newer.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'of-tomorrow'")
    for uri in ("sqlite:///newer.db", "nonsense://x"):
        tracked = track(run, uri)
        assert not tracked.ok
        assert "\n" not in tracked.message and f"palimpsest report {run} --track" in tracked.message
        assert Connection(RunDirectory(run), uri).go_on() is not None
