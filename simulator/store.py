"""Where runs are tracked: MLflow's store and its user interface, without importing MLflow."""

import subprocess
import sys
from pathlib import Path

DEFAULT_STORE = "sqlite:///mlflow.db"


def store_of(uri: str) -> str:
    """The tracking store: the one given, or a SQLite file in the working directory."""
    return uri or DEFAULT_STORE


def store_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store."""
    store = store_of(uri)
    return Path(store.removeprefix("sqlite:///")) if store.startswith("sqlite:///") else None


def serve(uri: str, port: int) -> int:
    """Run MLflow's user interface on a store, on the loopback interface, until interrupted; return its exit code."""
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store_of(uri)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the server got it too
            process.wait()
            return 0
