"""Where runs are tracked: MLflow's store and its user interface, without importing MLflow."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DEFAULT_STORE = "sqlite:///mlflow.db"


def store_of(uri: str) -> str:
    """The tracking store: the one given, or a SQLite file in the working directory."""
    return uri or DEFAULT_STORE


def store_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store."""
    store = store_of(uri)
    return Path(store.removeprefix("sqlite:///")) if store.startswith("sqlite:///") else None


def artifacts_beside(store: str, experiment: str) -> str | None:
    """Where a new experiment's artifacts go; None leaves it to the server."""
    file = store_file(store)
    return None if file is None else (file.resolve().parent / "mlartifacts" / experiment).as_uri()


def make_room(store: str) -> None:
    """Make the directory of a SQLite store: MLflow retries for a minute where it is missing."""
    file = store_file(store)
    if file is not None:
        file.resolve().parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that the user has not set, for a while."""
    chosen = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name in chosen:
            del os.environ[name]


def serve(uri: str, port: int) -> int:
    """Run MLflow's user interface on a store, on the loopback interface, until interrupted; return its exit code."""
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store_of(uri), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # Its job runners judge language models; they are of no use here, and noisy.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    # A session of its own: Ctrl-C reaches this process alone, which then ends the server and its workers.
    with subprocess.Popen(command, env=quiet, start_new_session=True) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            return 0
