"""Ray's hosts, as the operating system sees them."""

import contextlib

import psutil


def hosts_titled(title: str) -> list[int]:
    """Ids of this test's own processes whose title begins so; Ray names a worker after the call it is in."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "".join(process.cmdline()).startswith(title):
                found.append(process.pid)
    return found
