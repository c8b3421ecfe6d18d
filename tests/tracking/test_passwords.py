"""A password is planted wherever one may stand, and looked for in all that a run leaves and says."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.cli.console import recoverable
from palimpsest.simulator.results.html_page import page
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.tracking.store import check_store
from palimpsest.simulator.tracking.upload import track
from palimpsest.simulator.world.errors import holds_secret, masked
from tests.support.fabricated import WAYS, digits, make_run
from tests.support.stores import tracking_server

pytestmark = pytest.mark.mlflow

PASSWORD = "planted-Xq7"
ADDRESSES = [
    f"http://user:{PASSWORD}@127.0.0.1:9",
    f"http://{PASSWORD}@127.0.0.1:9",
    f"http://:{PASSWORD}@127.0.0.1:9",
    f"http://user:/{PASSWORD}/@127.0.0.1:9",
    f"http://user:a@{PASSWORD}@127.0.0.1:9",
    f"http://user:a%40{PASSWORD}@127.0.0.1:9/path?x=1",
    f"mysql://user:it's{PASSWORD}@127.0.0.1:9/db",
    f'mysql://user:"{PASSWORD}@127.0.0.1:9/db',
    f"http://user:{PASSWORD}@127.0.0.1:99999999",
    f"http://127.0.0.1:9/?token={PASSWORD}",
    f"http://127.0.0.1:9/?x=1&access_token={PASSWORD}&y=2",
    f"http://127.0.0.1:9/?accessToken={PASSWORD}",
    f"http://127.0.0.1:9/?api_key={PASSWORD}",
    f"http://127.0.0.1:9/?X-Amz-Signature={PASSWORD}",
    f"http://127.0.0.1:9/#token={PASSWORD}",
    f"postgresql://user:{PASSWORD}@127.0.0.1:9/db",
    f"postgresql://127.0.0.1:9/db?user=x&password={PASSWORD}",
    f"postgresql+nothing://user:{PASSWORD}@host/db",
    f"mssql://user:{PASSWORD}@host/db",
    f"mysql://user:{PASSWORD}@host/db?sslkey={PASSWORD}",
    f"nonsense://user:{PASSWORD}@host",
    f"sqlite:////dev/null/x.db?password={PASSWORD}",
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", {"": digits()}, ways=WAYS[:1], deletions=4)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    yield


def _nowhere(place: Path, *said: str) -> None:
    for path in place.rglob("*"):
        assert PASSWORD not in path.name
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path
    for text in said:
        assert PASSWORD not in text


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_scenario_with_one_is_refused_and_does_not_repeat_it(address: str, tmp_path: Path) -> None:
    assert holds_secret(address)
    assert PASSWORD not in masked(f"failed: {address}, {address!r}: ({address})")
    with pytest.raises(ScenarioError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        scenario_from_dict({"name": "x", "tracking": {"uri": address}})
    out = str(tmp_path / "out")
    done = CliRunner().invoke(cli.app, ["run", "--set", f"tracking.uri={address}", "--out", out])
    assert done.exit_code == 2
    _nowhere(tmp_path, str(refused.value), done.output, done.stderr)
    elsewhere = CliRunner().invoke(cli.app, ["run", "--set", f"data.source={address}", "--out", out])
    assert elsewhere.exit_code == 2
    _nowhere(tmp_path, elsewhere.output, elsewhere.stderr)


@pytest.mark.parametrize("address", ADDRESSES)
def test_one_in_the_environment_is_not_repeated_by_a_store_that_fails(
    address: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    try:
        check_store("")
    except ScenarioError as refused:
        _nowhere(run, str(refused))
    tracked = track(run)
    assert not tracked.ok
    _nowhere(run, tracked.message, tracked.uri)


@pytest.mark.parametrize(
    "address", ["http://user:pw@example.org/", "http://host/?viewStateShareKey=x", "https://host/a@b"]
)
def test_what_is_no_secret_is_left_readable(address: str) -> None:
    assert "***" in masked(address) if "pw" in address else masked(address) == address


@pytest.mark.parametrize("between", [" ", "\t", "', '", '" ', "/", "@"])
def test_no_character_hides_one_from_the_refusal(between: str) -> None:
    assert holds_secret(f"mysql://user:pa{between}ss@host/db")
    with pytest.raises(ScenarioError, match="MLFLOW_TRACKING_PASSWORD"):
        scenario_from_dict({"name": "x", "tracking": {"uri": f"mysql://user:pa{between}ss@host/db"}})


def test_what_stands_beside_an_address_is_left_readable() -> None:
    said = '{"uri":"http://host:5000","mail":"a@b"}'
    assert masked(said) == said
    assert masked(f"['http://host:80', 'a@b'] {said}") == f"['http://host:80', 'a@b'] {said}"


def test_a_traceback_does_not_repeat_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), recoverable(tmp_path):
        raise RuntimeError(f"cannot reach {ADDRESSES[0]}")
    out, err = capsys.readouterr()
    assert "RuntimeError" in err
    _nowhere(tmp_path, out, err)


def test_a_server_that_takes_it_keeps_it_nowhere(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Params, tags, artifacts, models and the log of the server; the run's own files and its page."""
    place = tmp_path / "server"
    place.mkdir()
    with tracking_server(place) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.replace("http://", f"http://user:{PASSWORD}@"))
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", PASSWORD)
        tracked = track(run)
        assert tracked.ok, tracked.message
    _nowhere(tmp_path, tracked.message, tracked.uri, page(RunFiles.open(run), []))
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == PASSWORD
