"""A run in MLflow while it goes on: a process of its own follows the run's directory and uploads what comes.

It shares nothing with the run but the directory and a pipe, so that it can neither block training nor change a bit of
it; and it outlives the run by some seconds, so that MLflow learns how the run ended whatever ended it.
"""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import palimpsest
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.tracking.store import lasting, store_file, store_of
from palimpsest.simulator.tracking.upload import Tracked, lost
from palimpsest.simulator.world.errors import masked

_BUNDLE = """
import runpy, sys, types
package = types.ModuleType("palimpsest")
package.__path__ = {paths!r}
sys.modules["palimpsest"] = package
sys.argv = ["palimpsest.simulator.tracking", *sys.argv[1:]]
runpy.run_module("palimpsest.simulator.tracking", run_name="__main__", alter_sys=True)
"""
_GOODBYE = 5.0
"""Seconds to wait for the last words of a run that failed; what takes longer goes on by itself."""


class Live:
    """Follows a run into MLflow. A context manager: leaving it without ``finish`` says that the run was stopped.

    Args:
        directory: of the run; exists.
        uri: of the store; may be empty, see ``upload.track``.
    """

    def __init__(self, directory: Path, uri: str) -> None:
        self._directory, self._uri = directory, lasting(uri)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if store_file(self._uri) is not None:
            RunDirectory(self._directory).tracked.note_store(self._uri)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        with contextlib.suppress(OSError):  # without it the run goes on; ``finish`` says that it is not tracked
            self._process = subprocess.Popen(
                [sys.executable, *_module(), str(self._directory.resolve()), self._uri],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the run
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        stopped = kind is not None and not issubclass(kind, Exception)
        self._say("KILLED" if kind is None or stopped else "FAILED")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOODBYE)
        self._let_go()

    def finish(self) -> Tracked:
        """The run is done and all of it on disk: wait until it is uploaded, and say what became of it."""
        if self._process is None:
            return self._lost("its process could not be started")
        self._say("FINISHED")
        assert self._process.stdout is not None
        lines = self._process.stdout.read().splitlines()
        code = self._process.wait()
        self._let_go()
        try:
            return Tracked(**json.loads(lines[-1]))
        except (IndexError, ValueError, TypeError):
            return self._lost(f"its process ended with exit code {code}")

    def _say(self, how: str) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        if process.stdin.closed:  # it was told, and the wait for it was interrupted
            return
        with contextlib.suppress(OSError):  # it is gone
            process.stdin.write(f"{how}\n".encode())
            process.stdin.close()

    def _let_go(self) -> None:
        pipes: tuple[IO[bytes] | None, ...] = (self._process.stdin, self._process.stdout) if self._process else ()
        for pipe in pipes:
            with contextlib.suppress(OSError):
                pipe.close() if pipe else None
        self._process = None

    def _lost(self, why: str) -> Tracked:
        return Tracked(False, lost(why, self._directory), masked(store_of(self._uri)))


def _module() -> list[str]:
    """How Python is told to follow: by name, or from Flower's bundle, which is not installed."""
    if getattr(palimpsest, "__spec__", None) is not None:
        return ["-m", "palimpsest.simulator.tracking"]
    return ["-c", _BUNDLE.format(paths=list(palimpsest.__path__))]


def told(tracked: Tracked) -> str:
    """What became of an upload, as the process that follows says it."""
    return json.dumps(asdict(tracked))
