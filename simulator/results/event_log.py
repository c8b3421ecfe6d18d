"""The log of a run's events on disk: what other processes, and those who come later, read of it."""

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.world.protocols.events import ArmDone, Event, RequestDone, RoundDone, Silent, TrainingDone

_LOGGED: Mapping[str, TypeAdapter[Event]] = {
    kind.__name__: TypeAdapter(kind) for kind in (RoundDone, RequestDone, TrainingDone, ArmDone)
}


class EventLog(Silent):
    """Writes rounds, requests, trainings and arms as JSON lines, as they are done; several processes may write to one.

    Args:
        path: of the file; made where it is missing, never rewritten.
        beginning: whether reading begins with the first line; else with what is written from now on.
    """

    def __init__(self, path: Path, beginning: bool = False) -> None:
        self._path = path
        self._read = path.stat().st_size if path.exists() and not beginning else 0

    @classmethod
    def of(cls, directory: Path) -> "EventLog":
        """The log of the run in a directory."""
        return cls(RunDirectory(directory).events)

    def round_done(self, event: RoundDone) -> None:
        """Write it down."""
        self._append(event)

    def request_done(self, event: RequestDone) -> None:
        """Write it down."""
        self._append(event)

    def training_done(self, event: TrainingDone) -> None:
        """Write it down."""
        self._append(event)

    def arm_done(self, event: ArmDone) -> None:
        """Write it down."""
        self._append(event)

    def newer(self) -> Iterator[Event]:
        """What has been written since this object was made, or was last asked; a line half written waits."""
        return (event for _, event in self.timed())

    def timed(self) -> Iterator[tuple[float, Event]]:
        """The same, each with the time when it was written, in seconds since 1970; 0 where the line has none."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            lines, _, _ = file.read().rpartition(b"\n")
        self._read += len(lines) + 1 if lines else 0
        for line in lines.splitlines():
            try:
                entry = json.loads(line)
                written = float(entry.pop("time", 0.0))
                event = _LOGGED[entry.pop("event")].validate_python(entry)
            except (ValueError, KeyError, TypeError, AttributeError):  # of a host that was killed while it wrote
                continue
            yield written, event

    def _append(self, event: Event) -> None:
        line = json.dumps({"event": type(event).__name__, "time": round(time.time(), 3), **asdict(event)}) + "\n"
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line.encode())
