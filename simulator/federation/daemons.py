"""Ray's daemons under watch: where one dies, Ray itself waits for a minute, prints its state and ends the process."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import psutil
import ray
from ray.exceptions import GetTimeoutError

from palimpsest.simulator.federation.guardian import Guardian
from palimpsest.simulator.world.errors import RunFailure

_LOOK = 0.2
"""Seconds between two looks at the daemons of this machine."""
_PROBE, _PROBES = 3.0, 3
"""Seconds between two connections to a cluster, and how many have to fail in a row."""
_NEEDED = ("gcs_server", "raylet")


class DaemonError(RunFailure):
    """A daemon of Ray is gone: nothing that needs hosts can go on."""


class Watch:
    """Looks after Ray's daemons from a thread of its own.

    Args:
        look: says what is gone, empty: nothing; called over and over.
        kill: ends what is left of a Ray that has lost a daemon.
    """

    def __init__(self, look: Callable[[], str], kill: Callable[[], None] = lambda: None) -> None:
        self._look, self._kill = look, kill
        self._over, self._lock = threading.Event(), threading.Lock()
        self.lost = ""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Refuse to wait for what is gone.

        Raises:
            DaemonError: a daemon is.
        """
        if self.lost:
            raise DaemonError(self.lost)

    def note(self) -> None:
        """Look now."""
        with self._lock:
            if not self.lost and (gone := self._look()):
                self.lost = gone
                self._kill()

    def close(self) -> None:
        """Look once more, and no longer."""
        self._over.set()
        self._thread.join()
        self.note()

    def _watch(self) -> None:
        while not self.lost and not self._over.is_set():
            self.note()
            self._over.wait(_LOOK)


_watching: list[Watch] = []
"""The watch of the Ray session that is open; none: nobody looks."""


def is_lost() -> bool:
    """Whether the Ray session that is open has lost a daemon by now: a signal to all ends them with this process."""
    for watch in _watching:
        watch.note()
    return any(watch.lost for watch in _watching)


@contextlib.contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Have ``got`` and ``ready`` ask this watch; at the end what is left of a Ray without daemons is gone."""
    _watching.append(watch)
    try:
        yield
    finally:
        watch.close()
        _watching.remove(watch)


def local(before: Collection[int], guardian: Guardian) -> Watch:
    """A watch of the Ray that this process has just started.

    Args:
        before: ids of the processes that it had started until then.
        guardian: is told of all that Ray starts.
    """
    everything = {child.pid: child for child in _children() if child.pid not in before}
    # Those of this process alone: a child that the raylet has just forked bears its name too, until it is a worker.
    started = [child for child in psutil.Process(os.getpid()).children() if child.pid in everything]
    needed = {_name(child): child for child in started if _name(child) in _NEEDED}
    due = [0.0]

    def look() -> str:
        for name, daemon in needed.items():
            if not _runs(daemon):
                return (
                    f"{name}, a process of Ray, was killed or has crashed, as where memory runs out: with fewer "
                    f"runtime.hosts, or runtime.backend = 'serial', a run needs less of it"
                )
        if time.monotonic() > due[0]:  # what Ray has started meanwhile
            due[0] = time.monotonic() + 10 * _LOOK
            for daemon in needed.values():
                with contextlib.suppress(psutil.NoSuchProcess):
                    everything.update({child.pid: child for child in daemon.children(recursive=True)})
            for process in everything:
                guardian.tell(process)
        return ""

    return Watch(look, lambda: _kill(everything.values()))


def remote(address: str) -> Watch:
    """A watch of a cluster that runs already, at host:port."""
    host, _, port = address.rpartition(":")
    failures, due = [0], [time.monotonic() + _PROBE]

    def look() -> str:
        if time.monotonic() < due[0]:
            return ""
        due[0] = time.monotonic() + _PROBE
        try:
            socket.create_connection((host, int(port)), timeout=_PROBE).close()
            failures[0] = 0
        except OSError:
            failures[0] += 1
        if failures[0] < _PROBES:
            return ""
        return f"the Ray cluster at runtime.ray_address = {address!r} answers no more: start it again, or another one"

    return Watch(look)


@contextlib.contextmanager
def none_left(before: Collection[int]) -> Iterator[None]:
    """Where Ray is cut short while it starts, end what it has started.

    Args:
        before: ids of the processes that this one had started until then.
    """
    try:
        yield
    except BaseException:
        _kill(child for child in _children() if child.pid not in before)
        raise


def ids() -> set[int]:
    """Of all processes that this one has started, and those that they have."""
    return {child.pid for child in _children()}


def ready(futures: Sequence[Any], count: int = 1, timeout: float | None = None) -> list[Any]:
    """Wait until so many are ready, or for ``timeout`` seconds; return those that are.

    Raises:
        DaemonError: a daemon is gone.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        _check()
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        done, _ = ray.wait(list(futures), num_returns=count, timeout=_LOOK if left is None else min(_LOOK, left))
        if len(done) >= count or left == 0.0:
            return list(done)


def got(future: Any) -> Any:
    """Wait for what a host returns.

    Raises:
        DaemonError: a daemon is gone.
        RayError: what Ray raises.
    """
    while True:
        _check()
        with contextlib.suppress(GetTimeoutError):
            return ray.get(future, timeout=_LOOK)


def _check() -> None:
    for watch in _watching:
        watch.check()


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()  # psutil leaves another process alone that has the id now


def _children() -> list[psutil.Process]:
    return psutil.Process(os.getpid()).children(recursive=True)


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
