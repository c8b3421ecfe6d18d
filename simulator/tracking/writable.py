"""Whether a SQLite store can be written to, asked before MLflow is: that tries for minutes, and says less."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from palimpsest.simulator.world.errors import RunFailure

PATIENCE = 10.0
"""Seconds to wait for another process that has locked the store."""
_SAID: Mapping[str, str] = {
    "SQLITE_BUSY": "another process keeps it locked: end that process, or name another store",
    "SQLITE_LOCKED": "another process keeps it locked: end that process, or name another store",
    "SQLITE_READONLY": "this user may not write to it, or its disk is read-only: make it writable",
    "SQLITE_CANTOPEN": "this user may not write to it or to its folder: make both writable",
    "SQLITE_FULL": "no space is left where it is: make room",
    "SQLITE_IOERR": "its disk refuses to be written to (full, above a quota or a limit, or failing): make room",
    "SQLITE_CORRUPT": "it is damaged: restore it from a copy, or name another store",
    "SQLITE_NOTADB": "it is no SQLite database: name another store, or move it away",
}
"""What SQLite refuses, by the beginning of its error's name, and what would help."""


class StoreFault(RunFailure):
    """A tracking store cannot be written to; the message is a clause that says why, and what would help."""


def check_writable(file: Path) -> None:
    """Refuse a SQLite store that cannot be written to.

    Args:
        file: of the store; exists.

    Raises:
        StoreFault: it cannot.
    """
    try:
        address = f"{file.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")  # a file that is read-only does not refuse this yet
            [version] = database.execute("PRAGMA user_version").fetchone()
            database.execute(f"PRAGMA user_version = {int(version)}")
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise StoreFault(said_of(error) or str(error)) from error


def said_of(error: BaseException | None) -> str:
    """What SQLite refuses, as a clause that says what would help; empty where it is not SQLite that refuses."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        name = getattr(error, "sqlite_errorname", "") or ""
        for begins, said in _SAID.items():
            if name.startswith(begins):
                return said
        error = getattr(error, "orig", None) or error.__cause__
    return ""
