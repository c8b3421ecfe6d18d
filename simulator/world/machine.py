"""What this machine has."""

from functools import cache
from pathlib import Path

import psutil

_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Where a container says how much memory it may take."""


@cache
def memory() -> int:
    """Bytes of memory that this machine has, or that this container may take."""
    total = int(psutil.virtual_memory().total)
    try:
        said = _LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(said)) if said.isdecimal() else total


def shown(count: float) -> str:
    """Bytes in decimal units."""
    size = count
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"
