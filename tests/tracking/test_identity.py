"""A run is in a tracking store once, whatever happened to the file that says by which name."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.results.schema import RunFilesError
from palimpsest.simulator.tracking.upload import track
from tests.support.fabricated import WAYS, digits, make_run
from tests.support.stores import new_store, runs_of

pytestmark = pytest.mark.mlflow
BEGUN = "0123456789abcdef" * 2
BROKEN = {"empty": b"", "cut short": b'{"id": "0123', "a list": b"[]", "no name": b'{"store": ""}', "no text": b"\xff"}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that is in a store, and the store."""
    place = tmp_path_factory.mktemp("tracked")
    run = make_run(place / "run", {"": digits()}, ways=WAYS[:1], deletions=4)
    RunDirectory(run).write_provenance({"run": BEGUN})
    store = new_store(place / "store")
    assert track(run, store).ok
    return run, store


@pytest.mark.parametrize("broken", [*BROKEN, "gone"])
def test_a_run_is_found_again_where_its_file_is_lost(tracked: tuple[Path, str], broken: str) -> None:
    run, store = tracked
    file = RunDirectory(run).tracked.path
    file.unlink() if broken == "gone" else file.write_bytes(BROKEN[broken])
    assert track(run, store).ok
    client = MlflowClient(store)
    experiments = [one.experiment_id for one in client.search_experiments()]
    assert len(client.search_runs(experiments)) == 2 == len(runs_of(client, run))
    assert RunDirectory(run).tracked.identity() == BEGUN


@pytest.mark.parametrize("broken", [name for name in BROKEN if name != "no name"])
def test_a_run_of_an_older_version_is_refused_then(tmp_path: Path, broken: str) -> None:
    """Nothing else says by which name it is tracked."""
    place = RunDirectory(make_run(tmp_path / "run", {"": digits()}, ways=WAYS[:1], deletions=4))
    place.tracked.path.write_bytes(BROKEN[broken])
    with pytest.raises(RunFilesError, match=r"tracking\.json is broken, .* restore it, or remove it to track the run"):
        track(place.path, new_store(tmp_path / "store"))
    assert place.tracked.path.read_bytes() == BROKEN[broken]


def test_two_names_are_refused(tracked: tuple[Path, str]) -> None:
    run, store = tracked
    file = RunDirectory(run).tracked.path
    file.write_text(json.dumps({"id": "another"}))
    with pytest.raises(RunFilesError, match=r"tracked as 'another', and provenance\.json beside it as '0123"):
        track(run, store)
    file.unlink()
