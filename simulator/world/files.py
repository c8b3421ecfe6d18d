"""Files that a reader finds whole or not at all."""

import contextlib
import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader finds the old content or the new one, never half of it.

    Raises:
        OSError: there is no room, or it may not be written; it names the file.
    """
    data = content.encode() if isinstance(content, str) else content
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def cache_directory() -> Path:
    """Where what can be computed again is kept: ``$PALIMPSEST_CACHE``, else ``~/.cache/palimpsest``."""
    named = os.environ.get("PALIMPSEST_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "palimpsest"
