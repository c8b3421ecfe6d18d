"""The erasure ledger: what was asked, what was decided and what was done, on disk before the server acts on it."""

import json
import os
import time
from pathlib import Path
from typing import Any, Literal

Event = Literal["requested", "accepted", "refused", "completed", "rejoined", "restarted"]
"""``rejoined``: clients take part again, with a new consent for what they had deleted. ``restarted``: an interrupted
run takes this arm up again from its first request; what stands above is void."""


class Ledger:
    """Append-only JSON lines, flushed to disk entry by entry.

    Args:
        path: the file; created if missing, never rewritten.
        arm: written with every entry.
    """

    def __init__(self, path: Path, arm: str) -> None:
        self._path = path
        self._arm = arm

    def write(self, event: Event, request: int | None, **about: Any) -> None:
        """Append one entry and wait until the disk has it."""
        entry = {"time": time.time(), "arm": self._arm, "event": event, "request": request, **about}
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
