"""Upload of a run directory as it is, in this process: what ``report --track`` does, and the end of every run."""

import fcntl
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import palimpsest.simulator.world.telemetry  # noqa: F401  # before MLflow
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.results.schema import RunFilesError
from palimpsest.simulator.tracking.page import runs_page
from palimpsest.simulator.tracking.store import environment, make_room, masked, store_of

if TYPE_CHECKING:
    from palimpsest.simulator.tracking.sending import Upload

_PROBING = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""A server that does not answer must not hold up a run: it can be uploaded later."""
_UPLOADING = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # A request that is sent again by itself may arrive twice, and a run be created twice: who fails looks first.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_PATIENCE = 60.0
"""Seconds to wait for another upload of the same directory: that of a run that was just killed is about to end."""


@dataclass(frozen=True)
class Tracked:
    """What became of an upload.

    Attributes:
        ok: whether everything is there.
        message: where to look at it, or why it failed and how to upload later.
        uri: of the store, without a password.
        run_id: of the parent run; empty where it failed.
    """

    ok: bool
    message: str
    uri: str
    run_id: str = ""


def track(directory: Path, uri: str = "", patience: float = _PATIENCE) -> Tracked:
    """Upload a run directory, or what is missing of it. A store that fails is reported, not raised.

    Args:
        directory: of a run, finished or interrupted.
        uri: of the tracking store; empty: ``MLFLOW_TRACKING_URI``, else a SQLite store in the working directory.
        patience: seconds to wait for another process that uploads the same directory.

    Raises:
        RunFilesError: the directory holds no run.
    """
    place = RunDirectory(directory)
    if not place.scenario_file.is_file():
        raise RunFilesError(f"{directory} holds no run: it has no {place.scenario_file.name}")
    with locked(place, patience) as alone:
        if not alone:
            said = f"not tracked: another process is uploading {directory}; when it has ended: {_later(directory)}"
            return Tracked(False, said, masked(store_of(uri)))
        return Connection(place, uri).end(place.ended() or "KILLED")


class Connection:
    """The way from one run directory to one store: what fails is reported, and tried again from the beginning.

    Args:
        directory: of the run; locked by this process.
        uri: of the store; may be empty, see ``track``.
    """

    def __init__(self, directory: RunDirectory, uri: str) -> None:
        self._directory, self._store = directory, store_of(uri)
        self._upload: Upload | None = None

    def go_on(self) -> Exception | None:
        """Send what is new; return the fault of a store that fails."""
        try:
            with _uploading():
                self._connected().go_on()
        except faults() as fault:
            self._drop()
            return fault
        return None

    def end(self, how: str) -> Tracked:
        """Send all that is left, and how the run ended (FINISHED, FAILED or KILLED)."""
        try:
            with _uploading():
                upload = self._connected()
                upload.end(how)
                run_id, page = upload.run_id, runs_page(self._store.rstrip("/"), upload.experiment)
        except faults() as fault:
            return Tracked(False, _failed(self._store, self._directory.path, fault), masked(self._store))
        finally:
            self._drop()
        where = f"tracked in {masked(self._store)}; look at it with: palimpsest ui"
        if self._store.startswith("http"):
            where = f"tracked in {masked(self._store)}; look at it at {masked(page)}"
        return Tracked(True, where, masked(self._store), run_id)

    def _connected(self) -> "Upload":
        from mlflow import MlflowClient

        from palimpsest.simulator.tracking.sending import Upload

        if self._upload is None:
            make_room(self._store)
            client = MlflowClient(self._store)
            with environment(_PROBING):
                client.search_experiments(max_results=1)
            self._upload = Upload(self._directory, client, self._store)
            self._upload.begin()
        return self._upload

    def _drop(self) -> None:
        if self._upload is not None:
            self._upload.close()
        self._upload = None


def faults() -> tuple[type[Exception], ...]:
    """What a store raises that fails."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, requests.RequestException, OSError


@contextmanager
def locked(directory: RunDirectory, patience: float) -> Iterator[bool]:
    """Hold the lock on a directory's upload; False where another process keeps it for longer than ``patience``."""
    with directory.tracking_lock.open("a") as file:
        deadline = time.monotonic() + patience
        while not (alone := _take(file)) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield alone


def _take(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _later(directory: Path) -> str:
    return f"palimpsest report {directory} --track"


def _failed(store: str, directory: Path, error: Exception) -> str:
    """Why, and what to do about it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    unreachable = "Max retries exceeded" in lines[0] or "timed out" in lines[0]
    said = masked(f"{store} {'does not answer' if unreachable else f'failed ({lines[0][:160]})'}")
    return f"not tracked: {said}. Nothing is lost: everything is in {directory}; upload it later with: " + _later(
        directory
    )


@contextmanager
def _uploading() -> Iterator[None]:
    """MLflow at work: no chatter and no long waits. Its global tracking address, an environment variable, stays."""
    import mlflow  # noqa: F401  # sets its loggers up when it is imported

    loggers = {name: logging.getLogger(name) for name in ("mlflow", "alembic")}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), environment(_UPLOADING):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])
