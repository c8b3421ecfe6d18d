"""A command under watch: when it reaches a stage of its run, what it said, how it ended, and what it left running.

The supervisor becomes the subreaper of its process: what outlives the command becomes its child, so that nothing that
was started can get out of sight.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

_SUBREAPER = 36
_LOOK = 0.01
_PAUSE = 0.2
HANGS = 1000
"""Exit code of what does not end."""
PALIMPSEST = (sys.executable, "-m", "palimpsest.simulator")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: as a shell would say it: 128 + n where signal n ended it.
        said: what it printed, stdout and stderr together.
        seconds: from the blow to its end.
        left: names and arguments of the processes that it had left when the time to end was over.
    """

    code: int
    said: str
    seconds: float
    left: tuple[str, ...] = ()

    @property
    def last(self) -> str:
        """The last line that was printed."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    @property
    def is_dump(self) -> bool:
        """Whether a traceback, a stack of C++ or a dump of some state was printed."""
        return any(sign in self.said for sign in DUMPS)


DUMPS = ("Traceback (most", "*** SIG", "@     0x", "Fatal Python", "[state-dump]", "StackTrace", "core dumped", "F0000")


@dataclass
class Supervised:
    """A command that is started, watched and ended. A context manager: at its end nothing is left running.

    Attributes:
        arguments: of ``palimpsest``.
        place: working directory.
        environment: that differs from this process's.
    """

    arguments: Sequence[str]
    place: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        become_subreaper()
        self._before = {child.pid for child in psutil.Process().children(recursive=True)}
        self._lines: list[str] = []
        environment = {**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [*PALIMPSEST, *self.arguments],
            cwd=self.place,
            env=environment,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in [self.process, *self.others()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self.others(), timeout=10)
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)

    @property
    def said(self) -> str:
        """What was printed so far."""
        return "".join(self._lines)

    def wait_for(self, stage: Callable[["Supervised"], bool], seconds: float = 600.0) -> bool:
        """Wait until the run is there; False where it ended before."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            if stage(self):
                return True
            if time.monotonic() > deadline:
                raise TimeoutError(f"not there within {seconds:.0f} s; it said: {self.said}")
            time.sleep(_LOOK)
        return False

    def pause(self, seconds: float) -> None:
        """Let it go on for so long, or until it ends."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(_LOOK)

    def send(self, number: int, times: int = 1, group: bool = False) -> None:
        """Send a signal to the command, or several in a row; as a terminal does to all of its process group."""
        for turn in range(times):
            if turn:
                time.sleep(_PAUSE)
            if self.process.poll() is None:
                (os.killpg if group else os.kill)(self.process.pid, number)

    def kill(self, name: str) -> bool:
        """Kill those of its processes whose name or arguments hold a word; False where there is none."""
        victims = [process for process in self.others() if name in said_of(process)]
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return bool(victims)

    def others(self) -> list[psutil.Process]:
        """What the command has started, and what that has: but for itself, zombies, and what was there before."""
        found = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                is_its = child.pid not in self._before and child.pid != self.process.pid
                if is_its and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
        return found

    def ended(self, seconds: float = 600.0, grace: float = 30.0) -> Ended:
        """Wait for its end, and then until nothing is left of it, or the grace is over.

        Args:
            seconds: that it may take to end.
            grace: seconds that its processes may outlive it: MLflow is told how it ended.
        """
        began = time.monotonic()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = HANGS
        took = time.monotonic() - began
        deadline = time.monotonic() + grace
        while (left := self.others()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._reading.join(5.0)
        names = tuple(said_of(process) for process in left)
        return Ended(128 - code if code < 0 else code, self.said, took, names)


def said_of(process: psutil.Process) -> str:
    """Name and arguments of a process; empty where it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return f"{process.name()} {' '.join(process.cmdline())}"[:200]
    return ""


def become_subreaper() -> None:
    """Have orphans of this process's descendants become its children."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
