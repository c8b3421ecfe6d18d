"""Files that a reader finds whole or not at all."""

import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader finds the old content or the new one, never half of it."""
    data = content.encode() if isinstance(content, str) else content
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def cache_directory() -> Path:
    """Where what can be computed again is kept: ``$PALIMPSEST_CACHE``, else ``~/.cache/palimpsest``."""
    named = os.environ.get("PALIMPSEST_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "palimpsest"
