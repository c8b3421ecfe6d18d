"""Memory and processor time of this process and of some others with all that they started."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

_LOOK = 0.5
"""Seconds between two looks: each costs some of this process's own time."""


@contextmanager
def peak_memory(processes: Sequence[int]) -> Iterator[dict[str, float]]:
    """Watch resident memory, by ``mib``: before, in between, and at the end."""
    peak, done = {"mib": 0.0}, threading.Event()

    def look() -> None:
        total = 0
        for process in _family(processes):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        peak["mib"] = max(peak["mib"], total / 2**20)

    def watch() -> None:
        while not done.wait(_LOOK):
            look()

    look()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        look()


def cpu_seconds(processes: Sequence[int]) -> float:
    """Processor time so far, user's and system's; of a process that has ended, once its parent has waited for it.

    The parent's account of its children holds those that it has waited for alone, so that no living one counts twice.
    """
    total = 0.0
    for process in _family(processes):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _family(processes: Sequence[int]) -> list[psutil.Process]:
    family = {psutil.Process()}
    for root in processes:
        with suppress(psutil.NoSuchProcess):
            family |= {psutil.Process(root), *psutil.Process(root).children(recursive=True)}
    return list(family)
