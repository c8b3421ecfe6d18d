"""What an unlearning method says of its own cost before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from palimpsest.simulator.world.records import DeletionRequest


@dataclass(frozen=True)
class Workload:
    """What a method will be asked to do.

    Attributes:
        requests: all of them; ``round`` is the number of rounds of training before each (1 where the optimum is
            solved for).
        rounds_between: ordinary rounds between a request and its unlearning.
        starts: releases of a training before its first round: 1 where the initial model is broadcast, else 0.
        updates_per_round: client updates that one round is expected to take; None where it cannot be known beforehand.
    """

    requests: Sequence[DeletionRequest]
    rounds_between: int
    starts: int
    updates_per_round: int | None

    def updates(self, rounds: int) -> int | None:
        """Client updates of so many rounds; None where they cannot be known beforehand."""
        return None if self.updates_per_round is None else rounds * self.updates_per_round


@dataclass(frozen=True)
class Forecast:
    """What a method expects to cost, over all requests.

    Attributes:
        rounds: of training or recovery.
        client_updates: answers that clients compute; None where it cannot be known beforehand.
        releases: models that are broadcast.
    """

    rounds: int
    client_updates: int | None
    releases: int


@runtime_checkable
class Forecasts(Protocol):
    """An unlearning method that can say what it will cost. Optional: the cost of any other is shown as unknown."""

    def forecast(self, work: Workload) -> Forecast:
        """The cost of all requests together."""
        ...
