"""The one update that lies closest to the others."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.strategies import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.strategy import Received, ServerState, Strategy
from palimpsest.simulator.world.records import Array, Params


class Krum(Strategy):
    """theta moves by the update whose n - f - 2 nearest others are closest to it (Blanchard et al., NeurIPS 2017).

    n clients have records left, f of them are feared to be malicious; at least one neighbour is looked at. Of equal
    ones the first counts. The server holds all updates of a round at once: clients of the round times the bytes of a
    model.

    Attributes:
        malicious: f; 0 as in Flower.
    """

    card: ClassVar[Card] = CARDS["krum"]
    strategy: Literal["krum"] = "krum"
    malicious: int = Field(default=0, ge=0)

    def step(self, received: Received, state: ServerState) -> tuple[Params, ServerState]:
        """Return the chosen update; nothing is kept."""
        count = len(received.clients)
        rows = np.concatenate([np.reshape(each, (count, -1)) for each in received.each.values()], axis=1)
        chosen = int(np.argmin(_scores(np.asarray(rows, np.float64), max(1, count - self.malicious - 2))))
        return {name: np.asarray(each[chosen], np.float64) for name, each in received.each.items()}, state


def _scores(rows: Array, neighbours: int) -> Array:
    """``[clients]`` sum of the squared distances of each row of ``[clients, size]`` to its nearest others."""
    squares = np.array([((rows - row) ** 2).sum(axis=1) for row in rows])
    np.fill_diagonal(squares, np.inf)
    nearest = np.sort(squares, axis=1)[:, : min(neighbours, len(rows) - 1)]
    scores: Array = nearest.sum(axis=1)
    return scores
