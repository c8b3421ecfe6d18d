"""Requests that wait for one another."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.defenses import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.records import DeletionRequest, Forget


class Batching(Defense):
    """Hold requests until ``size`` have come or the first has waited ``rounds`` rounds, and unlearn them together.

    What changes between two releases is then the sum of what several records did. A batch is one request from there on:
    it has the index of its first, arrives when its last has come (or when time is up), and is of one kind: requests of
    other levels or classes wait for their own. What is left over in the end is unlearned as the last batch.

    Guarantee: none by itself: a batch of k linear answers is taken apart by ``unmix``. It costs time: a deleted record
    is used, and seen, for up to ``rounds`` rounds longer.

    Attributes:
        size: k.
        rounds: of training that a request waits at most.
    """

    card: ClassVar[Card] = CARDS["batching"]
    kind: Literal["batching"] = "batching"
    size: int = Field(default=5, ge=2)
    rounds: int = Field(default=10, ge=0)

    def schedule(self, requests: Sequence[DeletionRequest]) -> tuple[DeletionRequest, ...]:
        """Merge requests; batches come in the order in which they are released."""
        open_: dict[tuple[str, int | None], list[DeletionRequest]] = {}
        done: list[DeletionRequest] = []
        for request in sorted(requests, key=lambda item: (item.round, item.index)):
            for kind in [kind for kind, held in open_.items() if request.round > held[0].round + self.rounds]:
                done.append(self._late(open_.pop(kind)))
            held = open_.setdefault((request.level, request.label), [])
            held.append(request)
            if len(held) == self.size:
                done.append(_merged(open_.pop((request.level, request.label)), request.round))
        rest = [_merged(held, held[-1].round) for held in open_.values()]
        return tuple(sorted([*done, *rest], key=lambda item: (item.round, item.index)))

    def _late(self, held: Sequence[DeletionRequest]) -> DeletionRequest:
        return _merged(held, held[0].round + self.rounds)


def _merged(held: Sequence[DeletionRequest], round: int) -> DeletionRequest:
    forget: dict[int, tuple[int, ...]] = {}
    for request in held:
        for client, records in request.forget.items():
            forget[client] = tuple(sorted({*forget.get(client, ()), *records}))
    ascending: Forget = {client: forget[client] for client in sorted(forget)}
    return replace(held[0], round=round, forget=ascending)
