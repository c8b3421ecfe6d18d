"""Keeps the process of an attack to the files that it is handed, where the kernel can: Landlock, Linux 5.13 and later.

A process that is confined reads the folders that it was granted, writes where that was granted, and reaches nothing
else: no other file, no TCP port, no abstract socket, no process outside (as far as the kernel's version goes).
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446
"""Numbers of the system calls, the same on all 64-bit architectures."""
_VERSION, _BENEATH = 1, 1
_NO_NEW_PRIVILEGES = 38
_EXECUTE, _WRITE, _READ, _READ_FOLDER, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE
_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights on files the kernel knows, by the version in which they became so many."""


def available() -> bool:
    """Whether this kernel can confine a process."""
    return _version() > 0


def confine(readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """Confine this process and those that it starts, for good; return whether the kernel could.

    Args:
        readable: files, and folders with all that is in them.
        writable: the same, to be read as well.

    Raises:
        OSError: the kernel has Landlock and refused.
    """
    version = _version()
    if version < 1:
        return False
    rights = (1 << max(count for since, count in _RIGHTS.items() if since <= version)) - 1
    network, scopes = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("=QQQ", rights, network, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _call(_CREATE, attributes, len(attributes), 0)
    for paths, allowed in ((readable, _EXECUTE | _READ | _READ_FOLDER), (writable, rights)):
        for path in paths:
            _allow(ruleset, path, allowed & rights)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs was refused")
    _call(_RESTRICT, ruleset, 0)
    os.close(ruleset)
    return True


def _allow(ruleset: int, path: Path, allowed: int) -> None:
    """Grant rights on a file, or on a folder and all in it; what is not there is nothing to be granted."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    _call(_ADD, ruleset, _BENEATH, struct.pack("=Qi", allowed if path.is_dir() else allowed & _OF_FILES, place), 0)
    os.close(place)


def _version() -> int:
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE, None, 0, _VERSION)))


def _call(number: int, *arguments: int | bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    done = int(libc.syscall(number, *arguments))
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return done
