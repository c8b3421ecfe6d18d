"""What a tracking store holds of one run directory, as plain values that can be compared."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.world.files import cache_directory

_EMPTY = cache_directory() / "tests" / f"mlflow-{version('mlflow')}.db"
_SERVED = {
    "_MLFLOW_SERVER_FILE_STORE": "sqlite:///mlflow.db",
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": "./mlartifacts",
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
"""What ``mlflow server`` tells the server that it starts."""
_MEASURED = ("seconds", "bytes", "speed_up", "system/")
"""In names of metrics that differ between two runs of one scenario."""


def new_store(place: Path) -> str:
    """URI of the SQLite store of a folder: where it has none yet a copy of an empty one, which takes MLflow seconds."""
    place.mkdir(parents=True, exist_ok=True)
    file = place / "mlflow.db"
    if not _EMPTY.is_file():
        _EMPTY.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_EMPTY.parent) as folder:
            draft = Path(folder) / "mlflow.db"
            MlflowClient(f"sqlite:///{draft}").search_experiments()
            draft.replace(_EMPTY)
    if not file.is_file():
        shutil.copyfile(_EMPTY, file)
    return f"sqlite:///{file}"


def runs_of(client: MlflowClient, directory: Path) -> dict[str, Run]:
    """The runs of a directory by arm; the parent by an empty name. There is one of each."""
    identity = RunDirectory(directory).tracked.identity()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`palimpsest.run` = '{identity}'", max_results=1000)
    by_arm = {run.data.tags.get("palimpsest.arm", ""): run for run in found}
    assert len(by_arm) == len(found), "a run is there twice"
    return by_arm


def content(store: str, directory: Path) -> dict[str, Any]:
    """All that a store has of a run directory, but for times, ids and what was measured of the machine."""
    client = MlflowClient(store)
    runs = runs_of(client, directory)
    versions: dict[str, list[list[str]]] = {}
    for model in client.search_model_versions():
        if model.tags["palimpsest.run"] == RunDirectory(directory).tracked.identity():
            named = client.get_registered_model(model.name).aliases
            aliases = sorted(alias for alias, number in named.items() if str(number) == str(model.version))
            versions.setdefault(model.tags["palimpsest.arm"], []).append(aliases)
    logged = client.search_logged_models([run.info.experiment_id for run in runs.values()][:1])
    return {
        "runs": {arm: _described(client, run) for arm, run in runs.items()},
        "versions": versions,
        "logged": sorted((model.tags["palimpsest.arm"], str(model.status)) for model in logged),
    }


def _described(client: MlflowClient, run: Run) -> dict[str, Any]:
    kept = {key for key in run.data.metrics if not any(part in key for part in _MEASURED)}
    tags = {
        key: run.data.tags.get(key) for key in ("transcript.digest", "outcome", "private", "mlflow.loggedArtifacts")
    }
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return {
        "status": run.info.status,
        "params": {key: value for key, value in run.data.params.items() if not key.startswith("tracking")},
        "tags": tags,
        "points": {
            key: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, key))
            for key in kept
        },
        "measured": sorted(set(run.data.metrics) - kept - {key for key in run.data.metrics if "system/" in key}),
        "files": _files(client, run.info.run_id),
        "data": sorted((i.dataset.name, i.dataset.digest) for i in inputs),
        "models": len(run.outputs.model_outputs) if run.outputs else 0,
    }


def _files(client: MlflowClient, run_id: str, path: str = "") -> list[str]:
    found = []
    for file in client.list_artifacts(run_id, path or None):
        found += _files(client, run_id, file.path) if file.is_dir else [file.path]
    return sorted(found)


def each_once(found: Mapping[str, Any]) -> None:
    """No point is there twice, and each arm has one model, one version and one alias."""
    for arm, run in found["runs"].items():
        for key, history in run["points"].items():
            assert len({step for step, _ in history}) == len(history), (arm, key, history)
        if arm:
            assert run["models"] == 1, (arm, run["models"])
            assert [len(aliases) for aliases in found["versions"][arm]] == [1], (arm, found["versions"][arm])
    assert len(found["logged"]) == len(found["runs"]) - 1
    assert {status for _, status in found["logged"]} == {"READY"}


@contextmanager
def tracking_server(place: Path, port: int = 0) -> Iterator[str]:
    """A real tracking server on loopback, with a SQLite store in ``place``; killed at the end.

    Started as ``mlflow server`` starts it, without that process, which loads MLflow as well.
    """
    with socket.create_server(("127.0.0.1", port)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command, quiet = [*command, "mlflow.server.fastapi_app:app"], os.environ | _SERVED
    with (
        (place / "server.log").open("a") as log,
        subprocess.Popen(command, cwd=place, stdout=log, stderr=log, env=quiet, start_new_session=True) as it,
    ):
        try:
            _wait_for(it, port, place)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(it.pid, signal.SIGKILL)  # its workers too: it holds nothing worth a graceful end


def _wait_for(server: "subprocess.Popen[bytes]", port: int, place: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, (place / "server.log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.2)


def told(directory: Path) -> dict[str, Any]:
    """What a run directory keeps of its tracking."""
    return dict(json.loads((directory / "tracking.json").read_text()))
