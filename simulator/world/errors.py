"""What ends a command or a run with one sentence instead of a traceback."""

import re
import unicodedata

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that move a terminal's cursor, turn its text round or end its line."""
_USER = r"(?P<user>://[^/\s:@'\"]*:)[^\s'\"]+(?=@)|(?P<token>://)[^/\s:@'\"]+(?=@)"
_WORDS = "password|passwd|pwd|token|secret|credential|signature"
_NAMES = rf"[\w.-]*(?:{_WORDS})[\w.-]*|(?:[\w.-]*[_.-]|api|access|ssl)?(?:key|sig)"
_NAMED = rf"(?P<key>[?&;#](?:{_NAMES})=)[^&;\s'\"]+"
_SECRET = re.compile(f"{_USER}|{_NAMED}", re.IGNORECASE)


def masked(text: str) -> str:
    """A text without the passwords and tokens of the addresses in it; where in doubt, more than those is gone."""
    return _SECRET.sub(lambda found: f"{found['user'] or found['token'] or found['key']}***", text)


def holds_secret(address: str) -> bool:
    """Whether an address has a password or a token in it."""
    return _SECRET.search(address) is not None


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
