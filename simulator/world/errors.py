"""What ends a command or a run with one sentence instead of a traceback."""


class RunFailure(RuntimeError):
    """A run that stops; the message is one sentence that says what would help."""


class TranscriptError(ValueError):
    """A transcript on disk is not what it claims to be."""


class DataError(ValueError):
    """Data cannot be used; the message is one sentence for whoever named them."""


class ModelError(ValueError):
    """A model cannot be built or trained; the message is one sentence for whoever named it."""
