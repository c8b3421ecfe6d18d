"""The mean of the clients' updates without the largest and the smallest."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.strategies import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.strategy import Received, ServerState, Strategy
from palimpsest.simulator.world.records import Array, Params


class TrimmedMean(Strategy):
    """theta moves by the mean of the updates between both tails, parameter by parameter (Yin et al., ICML 2018).

    All clients with records left count equally. The server holds all updates of a round at once: clients of the round
    times the bytes of a model.

    Attributes:
        trim: share of the clients that is cut off at each end, rounded down to whole clients; as in Flower.
    """

    card: ClassVar[Card] = CARDS["trimmed-mean"]
    strategy: Literal["trimmed-mean"] = "trimmed-mean"
    trim: float = Field(default=0.2, ge=0, lt=0.5)

    def step(self, received: Received, state: ServerState) -> tuple[Params, ServerState]:
        """Return the trimmed mean; nothing is kept."""
        cut = int(self.trim * len(received.clients))
        return {name: _between(each, cut) for name, each in received.each.items()}, state


def _between(each: Array, cut: int) -> Array:
    """Mean along the first axis without so many values at each end."""
    ordered = np.sort(np.asarray(each, np.float64), axis=0)
    mean: Array = ordered[cut : len(ordered) - cut].mean(axis=0)
    return mean
