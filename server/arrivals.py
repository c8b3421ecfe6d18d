"""A chain of requests: when each arrives, when a client that left comes back, and what is gone meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass

from palimpsest.simulator.world.records import Array, DeletionRequest, Forget


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
    return sorted(made + returns, key=lambda one: (one.round, not one.back, one.request.index))


def union(one: Forget, other: Forget) -> Forget:
    """Records that are in either.

    Example:
        >>> union({3: (0, 1)}, {3: (1, 2), 5: (4,)})
        {3: (0, 1, 2), 5: (4,)}
    """
    return {client: tuple(sorted({*one.get(client, ()), *other.get(client, ())})) for client in sorted({*one, *other})}


def without(gone: Forget, back: Forget) -> Forget:
    """Records of ``gone`` that are not in ``back``; no client is left without any.

    Example:
        >>> without({3: (0, 1), 5: (4,)}, {3: (1,), 5: (4,)})
        {3: (0,)}
    """
    left = {client: tuple(r for r in records if r not in back.get(client, ())) for client, records in gone.items()}
    return {client: records for client, records in left.items() if records}


def common(one: Forget, other: Forget) -> Forget:
    """Records that are in both; no client is there without any."""
    both = {client: tuple(r for r in records if r in one.get(client, ())) for client, records in other.items()}
    return {client: records for client, records in both.items() if records}


def left(sizes: Array, gone: Forget) -> int:
    """How many records are left, of ``[clients]`` sizes before any deletion."""
    return int(sizes.sum()) - sum(len(records) for records in gone.values())
