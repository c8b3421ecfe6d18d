"""How a run tells the user where it is. A run reports to the protocol; the command line brings the bars."""

from typing import Protocol


class Progress(Protocol):
    """Stages come one after the other; beginning one ends the one before."""

    def stage(self, name: str, total: int | None) -> None:
        """Begin a stage of ``total`` steps; None where their number is unknown."""
        ...

    def advance(self, steps: int = 1) -> None:
        """So many more steps of the stage are done."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line of its own."""
        ...


class Silent:
    """Says nothing: the default of the Python API."""

    def stage(self, name: str, total: int | None) -> None:
        """Ignore."""

    def advance(self, steps: int = 1) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""
