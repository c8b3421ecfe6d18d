"""Why a run cannot go on: faults of the scenario's numbers or of a host, not of the code."""


class RunFailure(RuntimeError):
    """A run that stops; the message is one sentence that says what would help."""
