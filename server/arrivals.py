"""A chain of requests: when each arrives, when a client that left comes back, and what is gone meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass

from palimpsest.simulator.world.records import Array, DeletionRequest, Forget

NOBODY_LEFT = "no client holds a record any more: the released model stands for nobody's data"
"""Where a deletion empties the federation: the request is done, as it must be, and what that means is said."""


@dataclass(frozen=True)
class Arrival:
    """Something that happens after a round of training.

    Attributes:
        round: rounds of training by then.
        request: whose.
        back: whether its client comes back; else the request is made.
    """

    round: int
    request: DeletionRequest
    back: bool


def timeline(requests: Sequence[DeletionRequest]) -> list[Arrival]:
    """All arrivals in order; after one round those who come back are first, then requests by their index."""
    made = [Arrival(request.round, request, False) for request in requests]
    returns = [Arrival(request.rejoin, request, True) for request in requests if request.rejoin is not None]
    return sorted(made + returns, key=lambda arrival: (arrival.round, not arrival.back, arrival.request.index))


def union(first: Forget, second: Forget) -> Forget:
    """Records that are in either.

    Example:
        >>> union({3: (0, 1)}, {3: (1, 2), 5: (4,)})
        {3: (0, 1, 2), 5: (4,)}
    """
    return {
        client: tuple(sorted({*first.get(client, ()), *second.get(client, ())})) for client in sorted({*first, *second})
    }


def without(gone: Forget, back: Forget) -> Forget:
    """Records of ``gone`` that are not in ``back``; no client is left without any.

    Example:
        >>> without({3: (0, 1), 5: (4,)}, {3: (1,), 5: (4,)})
        {3: (0,)}
    """
    left = {client: tuple(r for r in records if r not in back.get(client, ())) for client, records in gone.items()}
    return {client: records for client, records in left.items() if records}


def common(first: Forget, second: Forget) -> Forget:
    """Records that are in both; no client is there without any."""
    both = {client: tuple(r for r in records if r in first.get(client, ())) for client, records in second.items()}
    return {client: records for client, records in both.items() if records}


def left(sizes: Array, gone: Forget) -> int:
    """How many records are left, of ``[clients]`` sizes before any deletion."""
    return int(sizes.sum()) - sum(len(records) for records in gone.values())
