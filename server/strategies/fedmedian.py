"""The median of the clients' updates."""

from typing import ClassVar, Literal

import numpy as np

from palimpsest.server.strategies import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.strategy import Received, ServerState, Strategy
from palimpsest.simulator.world.records import Params


class FedMedian(Strategy):
    """theta moves by the median of the updates, parameter by parameter (Yin et al., ICML 2018).

    All clients with records left count equally. The server holds all updates of a round at once: clients of the round
    times the bytes of a model.
    """

    card: ClassVar[Card] = CARDS["fedmedian"]
    strategy: Literal["fedmedian"] = "fedmedian"

    def step(self, received: Received, state: ServerState) -> tuple[Params, ServerState]:
        """Return the median; nothing is kept."""
        return {name: np.median(np.asarray(each, np.float64), axis=0) for name, each in received.each.items()}, state
