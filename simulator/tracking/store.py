"""Where runs are tracked: MLflow's store and experiment, without importing MLflow."""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlsplit

from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.tracking.writable import StoreFault, check_writable
from palimpsest.simulator.world.errors import masked

VARIABLE = "MLFLOW_TRACKING_URI"
DEFAULT_STORE = "sqlite:///mlflow.db"
_SQLITE = "sqlite:///"
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_FOLDERS = "MLFLOW_ALLOW_FILE_STORE"
_NO_FOLDER = f"MLflow keeps no new runs in folders of files: take {_SQLITE}FILE (or set {_FOLDERS}=true)"


def store_of(uri: str) -> str:
    """The tracking store: the one given, else ``MLFLOW_TRACKING_URI``, else a SQLite file in the working directory.

    The address of a SQLite file is absolute: MLflow keeps a connection by its address, and the directory may change.
    """
    store = uri or os.environ.get(VARIABLE, "") or DEFAULT_STORE
    file = store_file(store)
    if file is None or file.is_absolute() or not file.name:
        return store
    return address_of(file.absolute()) + "".join(store.partition("?")[1:])


def address_of(file: Path) -> str:
    """Address of a SQLite store; characters that mean something in addresses are escaped, where SQLAlchemy does too."""
    plain = f"{_SQLITE}{file}"
    if not any(character in str(file) for character in "%?#"):
        return plain
    escaped = f"{_SQLITE}{quote(str(file))}"
    return escaped if store_file(escaped) == file else plain


def lasting(uri: str) -> str:
    """An address that means the same store in any working directory; what the environment says is left to it."""
    return store_of(uri) if store_of(uri).startswith(_SQLITE) else uri


def check_store(uri: str) -> None:
    """Refuse an address at which MLflow can keep nothing, before hours of training; a server may be down for now.

    Args:
        uri: of a scenario; may be empty, see ``store_of``.

    Raises:
        ScenarioError: it can't be a store, lacks its driver, or holds something else.
    """
    store = store_of(uri)
    given = f"tracking.uri = {masked(uri)!r}" if uri else f"{VARIABLE} = {masked(os.environ.get(VARIABLE, store))!r}"
    scheme = _SCHEME.match(store)
    kind = scheme[1].lower().partition("+")[0] if scheme else "databricks" if store == "databricks" else "file"
    if kind == "file":
        if os.environ.get(_FOLDERS, "").lower() not in ("true", "1"):
            _refuse(given, _NO_FOLDER)
    elif kind in _CHECKS:
        _CHECKS[kind](given, store)
    elif kind != "databricks" and kind not in {entry.name for entry in entry_points(group="mlflow.tracking_store")}:
        _refuse(given, f"{kind!r} is no kind of tracking store: take one of {', '.join(_CHECKS)}")


def _check_driver(given: str, store: str) -> None:
    from sqlalchemy.engine import make_url  # a third of a second, for those who have such a database
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(store).get_dialect().import_dbapi()
    except ImportError as error:
        _refuse(given, f"its driver is not installed, the Python package {error.name!r}: install it")
    except (SQLAlchemyError, ValueError) as error:
        _refuse(given, f"this is no address of a database: {masked(str(error).splitlines()[0])}")


def _check_address(given: str, store: str) -> None:
    try:
        address = urlsplit(store)
        fits = bool(address.hostname) and address.port != 0 and not re.search(r"\s", store)
    except ValueError:  # a port of more than 65535, a bracket that is not closed
        fits = False
    if not fits:
        _refuse(given, "this is no address of a server: give http://HOST:PORT, a port of at most 65535")


def _check_file(given: str, store: str) -> None:
    """Refuse what can't be a file, and a file that is something else than a database of MLflow's."""
    file = store_file(store)
    if file is None or not file.name or file.name == ":memory:":
        _refuse(given, f"a database in memory is gone with its process: give {_SQLITE}FILE")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse(given, f"its folder cannot be made: {error.strerror}")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        _refuse(given, "it cannot be written to")
    if os.path.lexists(file):
        if not file.is_file():
            _refuse(given, "it is no file")
        _check_tables(given, file)
        try:
            check_writable(file)
        except StoreFault as fault:
            _refuse(given, str(fault))


def _check_tables(given: str, file: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=1.0)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.OperationalError:  # somebody writes to it just now
        return
    except sqlite3.DatabaseError as error:
        _refuse(given, f"this file is no SQLite database ({error}): name another, or move it away")
    if tables and not {"alembic_version", "experiments"} <= tables:
        _refuse(given, "this database is not MLflow's: name another file")


def _refuse(given: str, why: str) -> NoReturn:
    raise ScenarioError(f"{given}: {why}")


_CHECKS: Mapping[str, Callable[[str, str], None]] = {
    "sqlite": _check_file, "postgresql": _check_driver, "mysql": _check_driver, "mssql": _check_driver,
    "http": _check_address, "https": _check_address,
}  # fmt: skip
"""What is known beforehand of an address, by its kind."""


def experiment_of(scenario: str) -> str:
    """Name of the experiment: ``MLFLOW_EXPERIMENT_NAME``, else the scenario's."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or scenario


def store_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store."""
    store = uri or os.environ.get(VARIABLE, "") or DEFAULT_STORE
    if not store.startswith(_SQLITE):
        return None
    if not any(character in store for character in "%?#"):
        return Path(store.removeprefix(_SQLITE))
    from sqlalchemy.engine import make_url  # a third of a second, where it matters what is escaped

    return Path(make_url(store).database or "")


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
