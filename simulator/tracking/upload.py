"""Upload of a run directory as it is, in this process: what ``report --track`` does, and the end of every run."""

import fcntl
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import palimpsest.simulator.world.telemetry  # noqa: F401  # before MLflow
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.results.schema import RunFilesError
from palimpsest.simulator.tracking.page import runs_page
from palimpsest.simulator.tracking.store import (
    VARIABLE,
    address_of,
    environment,
    lasting,
    make_room,
    store_file,
    store_of,
)
from palimpsest.simulator.tracking.writable import check_writable, said_of
from palimpsest.simulator.world.errors import masked

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
        uri: of the tracking store; empty: ``MLFLOW_TRACKING_URI``, else the SQLite store that the run was tracked in,
            else one in the working directory. The run's own is meant by a relative address too.
        patience: seconds to wait for another process that uploads the same directory.

    Raises:
        RunFilesError: the directory holds no run.
    """
    place = RunDirectory(directory)
    if not place.scenario_file.is_file():
        raise RunFilesError(f"{directory} holds no run: it has no {place.scenario_file.name}")
    uri = _where(place, uri)
    with locked(place, patience) as alone:
        if not alone:
            said = f"not tracked: another process is uploading {directory}; when it has ended: {_later(directory)}"
            return Tracked(False, said, masked(store_of(uri)))
        return Connection(place, uri).end(place.tracked.ended() or "KILLED")


def _where(directory: RunDirectory, uri: str) -> str:
    """The store that the run was tracked in, unless another one is named: one file named from another place is none."""
    named = uri or os.environ.get(VARIABLE, "")
    known = directory.tracked.store()
    file, other = (store_file(address) if address else None for address in (known, named))
    if file is None or not file.is_file():
        return uri
    relative = other is not None and named != lasting(named)
    return known if not named or (relative and other is not None and other.name == file.name) else uri


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
            with _uploading(self._store):
                self._connected().go_on()
        except RunFilesError:
            raise
        except Exception as fault:  # of databases, servers and places for artifacts, whatever they raise
            self._drop()
            return fault
        return None

    def end(self, how: str) -> Tracked:
        """Send all that is left, and how the run ended (FINISHED, FAILED or KILLED)."""
        try:
            with _uploading(self._store):
                upload = self._connected()
                upload.end(how)
                run_id, page = upload.run_id, runs_page(self._store.rstrip("/"), upload.experiment)
        except RunFilesError:
            raise
        except Exception as fault:  # see go_on
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
            file = store_file(self._store)
            if file is not None and file.is_file():
                check_writable(file)
            _create(self._store)
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


def _create(store: str) -> None:
    """Create a SQLite store that is not there yet: it appears whole, whoever is killed meanwhile, or not at all."""
    from mlflow import MlflowClient

    file = store_file(store)
    if file is None or file.exists():
        return
    draft = file.with_name(f".{file.name}.{os.getpid()}.draft")
    try:
        MlflowClient(address_of(draft.absolute())).search_experiments(max_results=1)
        with suppress(FileExistsError):  # somebody else was faster
            os.link(draft, file)
    finally:
        draft.unlink(missing_ok=True)


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
    if clause := said_of(error):
        return lost(f"{masked(store)}: {clause}", directory)
    lines = str(error).strip().splitlines() or [""]
    if not isinstance(error, OSError) and not type(error).__module__.startswith(("mlflow", "sqlalchemy", "requests")):
        lines[0] = f"{type(error).__name__}: {lines[0]}"
    unreachable = "Max retries exceeded" in lines[0] or "timed out" in lines[0]
    said = masked(f"{store} {'does not answer' if unreachable else f'failed ({lines[0][:160]})'}")
    return lost(said, directory)


def lost(why: str, directory: Path) -> str:
    """Why a run is not tracked, and that it can be sent later."""
    return (
        f"not tracked: {why}. Nothing is lost: everything is in {directory}; upload it later with: {_later(directory)}"
    )


@contextmanager
def _uploading(store: str) -> Iterator[None]:
    """MLflow at work: no chatter, no long waits, and its global address, an environment variable, for a while ours."""
    import mlflow

    loggers = {name: logging.getLogger(name) for name in ("mlflow", "alembic")}
    levels = {name: logger.level for name, logger in loggers.items()}
    named = os.environ.get("MLFLOW_TRACKING_URI")
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)
    mlflow.set_tracking_uri(store)  # a version's model is looked for there, whatever the client
    try:
        with warnings.catch_warnings(), environment(_UPLOADING):
            warnings.simplefilter("ignore")
            yield
    finally:
        mlflow.set_tracking_uri(named)  # type: ignore[arg-type]  # None: nowhere in particular
        for name, logger in loggers.items():
            logger.setLevel(levels[name])
