"""The erasure ledger: what was asked, what was decided and what was done, on disk before the server acts on it."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from palimpsest.simulator.world.records import Forget

Event = Literal["requested", "accepted", "refused", "completed", "rejoined", "restarted", "failed"]
"""``rejoined``: clients take part again, with a new consent for what they had deleted. ``restarted``: an interrupted
run takes this arm up again from its first request; what stands above is void.
``failed``: the arm cannot go on; none of its requests counts as completed."""


class Ledger:
    """Append-only JSON lines, flushed to disk entry by entry, or those of one decision together.

    Several processes may write to one file: what belongs together is appended in one piece.

    Args:
        path: the file; created if missing, never rewritten.
        arm: written with every entry.
        names: of the clients, by id; empty where they have none.
    """

    def __init__(self, path: Path, arm: str, names: Sequence[str] = ()) -> None:
        self._path = path
        self._arm = arm
        self._names = names
        self._waiting: list[str] | None = None

    def name(self, client: int) -> str:
        """What readers call a client."""
        return self._names[client] if self._names else f"client {client}"

    def whose(self, forget: Forget) -> dict[str, Any]:
        """What an entry says of records: which, by client, and the clients' names where they have some."""
        records = {str(client): list(indices) for client, indices in forget.items()}
        return {"records": records} | ({"names": [self._names[client] for client in forget]} if self._names else {})

    def write(self, event: Event, request: int | None, **about: Any) -> None:
        """Append one entry and wait until the disk has it; within ``together``, until its end has it."""
        entry = {"time": time.time(), "arm": self._arm, "event": event, "request": request, **about}
        line = json.dumps(entry) + "\n"
        if self._waiting is None:
            self._append(line)
        else:
            self._waiting.append(line)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have the entries of some requests on disk at the end, all at once: nobody acts on any of them before."""
        self._waiting = []
        try:
            yield
        finally:
            lines, self._waiting = self._waiting, None
            if lines:
                self._append("".join(lines))

    def _append(self, text: str) -> None:
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
