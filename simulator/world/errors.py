"""What ends a command or a run with one sentence instead of a traceback."""

import errno
import re
import unicodedata
from collections.abc import Mapping

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that move a terminal's cursor, turn its text round or end its line."""
_IN_PASSWORD = r"(?:[^\s'\"]|['\"](?![\s,:;)\]}]|$))"  # a quotation mark that ends nothing is part of it
_USER = rf"(?P<user>://[^/\s:@'\"]*:){_IN_PASSWORD}+(?=@)|(?P<token>://)[^/\s:@'\"]+(?=@)"
_WORDS = "password|passwd|pwd|token|secret|credential|signature"
_NAMES = rf"[\w.-]*(?:{_WORDS})[\w.-]*|(?:[\w.-]*[_.-]|api|access|ssl)?(?:key|sig)"
_NAMED = rf"(?P<key>[?&;#](?:{_NAMES})=)[^&;\s'\"]+"
_SECRET = re.compile(f"{_USER}|{_NAMED}", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"://[^/:@]*:.+@|://[^/:@]+@", re.DOTALL)


def masked(text: str) -> str:
    """A text without the passwords and tokens of the addresses in it; where in doubt, more than those is gone."""
    return _SECRET.sub(lambda found: f"{found['user'] or found['token'] or found['key']}***", text)


def holds_secret(address: str) -> bool:
    """Whether an address has a password or a token in it, whatever characters that is made of."""
    return _IN_ADDRESS.search(address) is not None or _SECRET.search(address) is not None


class RunFailure(RuntimeError):
    """A run that stops; the message is one sentence that says what would help."""


class SettledFailure(RunFailure):
    """A run that stops, and would stop at the same place again: the message says what to change before another one."""


class TranscriptError(ValueError):
    """A transcript on disk is not what it claims to be."""


class DataError(ValueError):
    """Data cannot be used; the message is one sentence for whoever named them."""


class ModelError(ValueError):
    """A model cannot be built or trained; the message is one sentence for whoever named it."""


def printable(text: str) -> str:
    """Text with escapes in the place of characters that steer a terminal, line ends among them."""
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in _STEERING else c for c in text)


_OF_A_DISK: Mapping[int, str] = {
    errno.ENOSPC: "no space is left where {place} is: make room",
    errno.EDQUOT: "this user's quota where {place} is is used up: make room",
    errno.EFBIG: "{place} would be larger than files of this process may be (ulimit -f): raise that limit",
    errno.EROFS: "{place} is on a file system that is read-only: make it writable",
    errno.EACCES: "{place} may not be read or written by this user: change its permissions",
    errno.EPERM: "{place} may not be written by this user: change its permissions",
    errno.EIO: "the device of {place} fails: look at the system's log",
    errno.EMFILE: "this process has opened as many files as it may (ulimit -n): raise that limit",
    errno.ENFILE: "this machine has opened as many files as it may: end other programs",
    errno.ENOTCONN: "the file system of {place} is gone: bring it back",
    errno.ESTALE: "the file system of {place} is gone: bring it back",
}


def disk_fault(error: BaseException, place: object = "") -> str:
    """What a file system refuses, and what to do about it; empty where that is not what went wrong.

    Args:
        error: that was raised, maybe from an error of the system.
        place: that is named where the error names no file.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, OSError):
            short = cause.errno is None and "requested and" in str(cause)  # so NumPy says that a file was cut short
            said = _OF_A_DISK.get(errno.ENOSPC if short else cause.errno or 0, "")
            if said:
                return said.format(place=printable(str(cause.filename or place or "a file")))
        seen.append(cause)
        cause = cause.__cause__
    return ""
