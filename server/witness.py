"""Who is told what becomes of requests while a server works."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from palimpsest.simulator.world.records import DeletionRequest, Release

if TYPE_CHECKING:
    from palimpsest.server.session import Processed


class Witness(Protocol):
    """Is told of requests as they are processed; what it does changes nothing."""

    def unseen(self, release: Release, request: DeletionRequest | None) -> None:
        """An ordinary round between a request and its unlearning, which nobody outside hears.

        Args:
            release: the model after it.
            request: that waits; None where several do.
        """
        ...

    def begins(self, request: DeletionRequest) -> None:
        """The unlearning of one request begins; not told where several are unlearned together."""
        ...

    def completed(self, processed: "Sequence[Processed]") -> None:
        """Requests are completed: those that were unlearned together, in order."""
        ...

    def refused(self, request: DeletionRequest, reason: str) -> None:
        """A request was refused, and why."""
        ...
