"""Ends what Ray has started when this process is killed: Ray's agents would look for its other daemons for ever.

The kernel ends Ray's daemons with this process. Agents and hosts, which are children of a daemon, find out by
themselves, and some never do.
"""

import contextlib
import subprocess
import sys
from typing import Self

_SCRIPT = """
import os, signal, sys

def begun(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""

wards = {}
for line in sys.stdin:
    wards[int(line)] = begun(int(line))
for process, beginning in wards.items():
    if beginning and begun(process) == beginning:  # else another process has the id now
        try:
            os.kill(process, signal.SIGKILL)
        except OSError:
            pass
"""


class Guardian:
    """A small process that waits for this one to be gone, and kills then what it was told of. Linux only.

    A context manager: at its end too it kills what is left of that.
    """

    def __enter__(self) -> Self:
        self._told: set[int] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a signal to this process's group is not for it
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def tell(self, process: int) -> None:
        """Have it end this process too."""
        if process in self._told or self._process.stdin is None:
            return
        self._told.add(process)
        with contextlib.suppress(OSError):  # it was killed: nothing that the run needs
            self._process.stdin.write(f"{process}\n".encode())
            self._process.stdin.flush()
