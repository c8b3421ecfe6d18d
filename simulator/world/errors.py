"""What ends a command or a run with one sentence instead of a traceback."""

import unicodedata

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that move a terminal's cursor, turn its text round or end its line."""


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
