"""What an attack costs: time, memory, and what it asked of models that it cannot read."""

import threading
import time
from dataclasses import dataclass
from types import TracebackType

import psutil

_EVERY = 0.02
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class Cost:
    """Of one attack over all cases.

    Attributes:
        seconds: of processor time, of all threads: what runs beside the attack does not count.
        peak_bytes: by how much the process's resident memory rose above where it was at the start, at most. Memory that
            the process had set free but kept is not counted, and a peak shorter than 20 ms may be missed: a lower
            bound.
        queries: records that were shown to a model, each counted once for every model; None for attacks that read the
            parameters and ask nothing.
    """

    seconds: float
    peak_bytes: int = 0
    queries: int | None = None


class CostMeter:
    """Measures what happens inside ``with``: the memory is looked at from a thread, which costs less than 1 %."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "CostMeter":
        self._base = self._peak = self._process.memory_info().rss
        self._watch.start()
        self._began = time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seconds = time.process_time() - self._began
        self._done.set()
        self._watch.join()
        self._peak = max(self._peak, self._process.memory_info().rss)

    @property
    def cost(self) -> Cost:
        """What it was, once it is over; queries are for others to count."""
        return Cost(self._seconds, self._peak - self._base)

    def _look(self) -> None:
        while not self._done.wait(_EVERY):
            self._peak = max(self._peak, self._process.memory_info().rss)
