"""Uploads, read back through MLflow's own client: from a SQLite store, and from a real server on loopback."""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from safetensors.numpy import load_file

from palimpsest.simulator.tracking.metrics import HEADLINE, metric_name
from palimpsest.simulator.tracking.models import alias_of
from palimpsest.simulator.tracking.upload import track
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.specs import ModelSpec
from tests.support.fabricated import WAYS, digits, make_run
from tests.support.stores import content, each_once, new_store, tracking_server

pytestmark = pytest.mark.mlflow


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two arms with a model each."""
    place = make_run(tmp_path / "the-run", {"": digits()}, ways=(WAYS[0], WAYS[3]), deletions=8)
    (place / "figures" / "summary.png").write_bytes(b"\x89PNG")
    return place


@pytest.fixture
def store(tmp_path: Path) -> str:
    """URI of a store of its own."""
    return new_store(tmp_path / "store")


def uploaded(client: MlflowClient) -> tuple[Run, dict[str, Run]]:
    """The parent and, by arm, the children."""
    experiment = client.get_experiment_by_name("fabricated")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [found for found in runs if "mlflow.parentRunId" not in found.data.tags]
    children = {found.info.run_name: found for found in runs if found is not parent}
    assert len(children) == len(runs) - 1
    assert all(child.data.tags["mlflow.parentRunId"] == parent.info.run_id for child in children.values())
    return parent, children


def check(client: MlflowClient, run: Path) -> None:
    """Everything that belongs to the fabricated run is there."""
    parent, children = uploaded(client)
    results = json.loads((run / "results.json").read_text())
    assert set(children) == {arm["arm"] for arm in results["arms"]}
    assert parent.info.run_name == "the-run"
    assert parent.data.params["data.partition.scheme"] == "iid"
    assert parent.data.params["unlearning.1.method"] == "ascent"
    assert parent.data.metrics["arms/success"] == children[results["arms"][-1]["arm"]].data.metrics["success"]
    assert parent.data.tags["version.flwr"] == "1.41.0"
    assert "hrec" in parent.data.tags["mlflow.note.content"]
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert names == {"scenario.toml", "results.json", "ledger.jsonl", "figures", "tables"}
    assert [file.path for file in client.list_artifacts(parent.info.run_id, "figures")] == ["figures/summary.png"]
    for arm in results["arms"]:
        child = children[arm["arm"]]
        assert child.info.status == "FINISHED"
        assert child.data.tags["transcript.digest"] == arm["transcript_digest"]
        assert child.data.params["unlearning.method"] == arm["unlearning"]["method"]
        assert child.data.tags["private"] == "no"
        assert child.data.metrics["epsilon"] == 1e9
        assert child.data.metrics["success"] == arm["attacks"][child.data.tags["best attack"]]["cosine_centred_median"]
        logged = child.data.metrics["attack/hrec/cosine_median"]
        assert logged == pytest.approx(arm["attacks"]["hrec"]["cosine_median"], abs=1e-12)
        wanted = [release["utility"] for release in json.loads((run / "rounds" / f"{arm['arm']}.json").read_text())]
        history = sorted(client.get_metric_history(child.info.run_id, "round/utility"), key=lambda point: point.step)
        assert [point.step for point in history] == list(range(len(wanted)))
        np.testing.assert_allclose([point.value for point in history], wanted, atol=1e-12)


def test_a_run_is_uploaded_whole(run: Path, store: str) -> None:
    tracked = track(run, store)
    assert tracked.ok, tracked.message
    client = MlflowClient(store)
    check(client, run)
    assert tracked.run_id == uploaded(client)[0].info.run_id


def test_pictures_that_are_drawn_after_an_upload_come_with_the_next_and_nothing_comes_twice(
    run: Path, store: str
) -> None:
    (run / "figures" / "summary.png").unlink()
    assert track(run, store).ok
    (run / "figures" / "summary.png").write_bytes(b"\x89PNG")
    os.utime(run / "results.json", (2e9, 2e9))  # a run that is resumed writes its results again
    assert track(run, store).ok
    check(MlflowClient(store), run)
    each_once(content(store, run))


def test_the_model_answers_its_input_example_under_pyfunc_and_holds_no_pickle(run: Path, store: str) -> None:
    assert track(run, store).ok
    files = {path.suffix for path in Path(store.removeprefix("sqlite:///")).parent.rglob("models/**/*.*")}
    assert files == {".safetensors", ".json", ".py", ".txt", ".yaml"}  # before Python keeps what it has compiled there
    arms = json.loads((run / "results.json").read_text())["arms"]
    mlflow.set_tracking_uri(store)
    try:
        for arm in [arm["arm"] for arm in arms]:
            loaded = mlflow.pyfunc.load_model(f"models:/fabricated@{alias_of(arm)}")
            example = loaded.input_example
            spec = ModelSpec.model_validate_json((run / "models" / f"{arm}.json").read_text())
            weights, model = load_file(run / "models" / f"{arm}.safetensors"), model_of(spec)
            np.testing.assert_array_equal(loaded.predict(example), model.predict(weights, example))
            x = digits().x[:7].astype(spec.dtype)
            np.testing.assert_array_equal(loaded.predict(x), model.predict(weights, x))
            assert loaded.metadata.signature.outputs.inputs[0].shape == (-1, 10)
    finally:
        mlflow.set_tracking_uri(None)
    assert len(MlflowClient(store).search_registered_models()) == 1


def test_a_second_upload_adds_nothing(run: Path, store: str) -> None:
    first = track(run, store)
    second = track(run, store)
    assert (second.ok, second.run_id) == (True, first.run_id)
    client = MlflowClient(store)
    check(client, run)
    _, children = uploaded(client)
    versions = client.search_model_versions("name = 'fabricated'")
    assert sorted(version.tags["palimpsest.arm"] for version in versions) == sorted(children)
    histories = [client.get_metric_history(child.info.run_id, "round/utility") for child in children.values()]
    assert all(len({point.step for point in history}) == len(history) > 1 for history in histories)


def test_an_upload_cut_short_is_completed(run: Path, store: str) -> None:
    track(run, store)
    client = MlflowClient(store)
    _, children = uploaded(client)
    gone, half = children.values()
    client.delete_run(gone.info.run_id)
    client.delete_tag(half.info.run_id, "palimpsest.content")
    assert track(run, store).ok
    check(client, run)


def test_two_runs_of_one_scenario_share_an_experiment(run: Path, store: str, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", {"": digits()}, ways=WAYS[:1], deletions=8)
    assert track(run, store).ok
    assert track(other, store).ok
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("fabricated")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(r.info.run_name for r in runs if "mlflow.parentRunId" not in r.data.tags) == ["other", "the-run"]


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port where somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=5) as listener:
        yield listener.getsockname()[1]


def test_a_store_that_fails_costs_seconds_and_loses_nothing(run: Path, deaf: int, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database" * 100)
    before, here = dict(os.environ), mlflow.get_tracking_uri()
    for uri in (f"http://127.0.0.1:{deaf}", "http://127.0.0.1:9", f"sqlite:///{tmp_path}/text.db", "/dev/null/x"):
        began = time.monotonic()
        tracked = track(run, uri)
        assert not tracked.ok
        assert f"palimpsest report {run} --track" in tracked.message
        assert time.monotonic() - began < 40
    assert (dict(os.environ), mlflow.get_tracking_uri()) == (before, here)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real tracking server on loopback, with a store of its own."""
    place = tmp_path / "server"
    new_store(place)
    with tracking_server(place) as uri:
        yield uri


def test_a_run_is_uploaded_to_a_server(run: Path, server: str) -> None:
    tracked = track(run, server)
    assert tracked.ok, tracked.message
    assert tracked.message.startswith(f"tracked in {server}; look at it at {server}/#/experiments/")
    check(MlflowClient(server), run)


def test_names_of_metrics_are_names_and_no_positions(run: Path, store: str) -> None:
    assert track(run, store).ok
    _, children = uploaded(MlflowClient(store))
    for child in children.values():
        names = set(child.data.metrics)
        assert {name for name in names if "/" not in name} <= set(HEADLINE)
        assert not [name for name in names if any(part.isdigit() for part in name.split("/"))]
        assert "attack/hrec/cosine_centred_ci95/low" in names
    assert metric_name("bound/cosine>=0.9/x") == "bound/cosine at least 0.9/x"


def test_a_new_store_is_created_whole_and_nothing_is_left_beside_it(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "mlflow.db"
    assert track(run, f"sqlite:///{file}").ok
    assert {path.name for path in file.parent.iterdir()} == {"mlflow.db", "mlartifacts"}
