"""Where runs are tracked: MLflow's store and experiment, without importing MLflow."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DEFAULT_STORE = "sqlite:///mlflow.db"
_SQLITE = "sqlite:///"
_SECRET = re.compile(
    r"(://[^/\s:@]*:)[^/\s]+(?=@)|([?&](?:password|passwd|pwd|token|secret|key)=)[^&\s]+", re.IGNORECASE
)


def store_of(uri: str) -> str:
    """The tracking store: the one given, else ``MLFLOW_TRACKING_URI``, else a SQLite file in the working directory."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI", "") or DEFAULT_STORE


def experiment_of(scenario: str) -> str:
    """Name of the experiment: ``MLFLOW_EXPERIMENT_NAME``, else the scenario's."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or scenario


def masked(text: str) -> str:
    """A text without the passwords of the addresses in it."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}***", text)


def store_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store."""
    store = store_of(uri)
    return Path(store.removeprefix(_SQLITE)) if store.startswith(_SQLITE) else None


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
