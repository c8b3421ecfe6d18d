"""Who is told of a run's events: one object that passes them on, the log on disk among its listeners."""

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from palimpsest.simulator.results.event_log import EventLog
from palimpsest.simulator.world.protocols.events import (
    ArmDone,
    Event,
    Noted,
    Observer,
    RequestDone,
    RoundDone,
    StageBegan,
    TrainingDone,
    tell,
)

_PAUSE = 0.2
"""Seconds between two looks at a log that hosts write."""


class Observers:
    """Passes every event on to several observers, from one thread at a time.

    An observer that raises is told nothing more, and the fault is printed once: it can neither stop nor change a run.

    Args:
        observers: who listens, in this order.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._listening = list(observers)
        self._lock = threading.Lock()

    @classmethod
    def of(cls, directory: Path, observer: Observer | None) -> "Observers":
        """Those of a run: the log in the run's directory, and then whom the user brings."""
        if isinstance(observer, Observers):
            return observer
        return cls([EventLog.of(directory), *([observer] if observer is not None else [])])

    def tell(self, event: Event, but: type[object] | None = None) -> None:
        """Pass an event on to all but the observers of one class."""
        with self._lock:
            for observer in list(self._listening):
                if but is None or not isinstance(observer, but):
                    self._try(observer, event)

    def stage_began(self, event: StageBegan) -> None:
        """Pass it on."""
        self.tell(event)

    def noted(self, event: Noted) -> None:
        """Pass it on."""
        self.tell(event)

    def round_done(self, event: RoundDone) -> None:
        """Pass it on."""
        self.tell(event)

    def request_done(self, event: RequestDone) -> None:
        """Pass it on."""
        self.tell(event)

    def training_done(self, event: TrainingDone) -> None:
        """Pass it on."""
        self.tell(event)

    def arm_done(self, event: ArmDone) -> None:
        """Pass it on."""
        self.tell(event)

    def _try(self, observer: Observer, event: Event) -> None:
        try:
            tell(observer, event)
        except Exception as fault:  # whatever a listener does, the run goes on
            self._listening.remove(observer)
            said = f"{type(fault).__name__}: {fault}"
            with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
                print(
                    f"warning: {type(observer).__name__} failed at {type(event).__name__} and hears no more of this "
                    f"run, which goes on: {said}",
                    file=sys.stderr,
                )


@contextlib.contextmanager
def following(directory: Path, observers: Observers) -> Iterator[None]:
    """Pass on what other processes write into a run's log, a moment later; at the end, all that is left of it."""
    log, over = EventLog.of(directory), threading.Event()

    def pass_on() -> None:
        for event in log.newer():
            observers.tell(event, but=EventLog)

    def follow() -> None:
        while not over.wait(_PAUSE):
            pass_on()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        pass_on()
