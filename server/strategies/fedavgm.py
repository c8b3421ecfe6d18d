"""Federated averaging with momentum at the server."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.strategies import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.strategy import Received, ServerState, Strategy
from palimpsest.simulator.world.records import Params


class FedAvgM(Strategy):
    """v <- beta v + mean update; theta <- theta + eta v, v = 0 at the start (FedAvgM; Hsu et al. 2019).

    Attributes:
        server_momentum: beta, as in the paper (0 in Flower, which is fedavg).
        server_learning_rate: eta.
    """

    card: ClassVar[Card] = CARDS["fedavgm"]
    strategy: Literal["fedavgm"] = "fedavgm"
    server_momentum: float = Field(default=0.9, ge=0, lt=1)
    server_learning_rate: float = Field(default=1.0, gt=0)

    def step(self, received: Received, state: ServerState) -> tuple[Params, ServerState]:
        """Return eta v; the state keeps v."""
        before = state.arrays.get("momentum", {})
        velocity = {
            name: self.server_momentum * before.get(name, np.zeros_like(mean)) + mean
            for name, mean in received.mean.items()
        }
        moved = {name: self.server_learning_rate * value for name, value in velocity.items()}
        return moved, ServerState(state.steps + 1, {"momentum": velocity})
