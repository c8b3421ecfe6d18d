"""Yogi at the server."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.strategies import CARDS
from palimpsest.server.strategies.adaptive import Adaptive
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.records import Array


class FedYogi(Adaptive):
    """v <- v - (1 - b2) D^2 sign(v - D^2) (FedYogi; Reddi et al., ICLR 2021), D the mean update.

    Attributes:
        server_learning_rate: eta, as in Flower.
    """

    card: ClassVar[Card] = CARDS["fedyogi"]
    strategy: Literal["fedyogi"] = "fedyogi"
    server_learning_rate: float = Field(default=0.01, gt=0)

    def second_moment(self, before: Array, square: Array) -> Array:
        """v - (1 - b2) D^2 sign(v - D^2)."""
        moment: Array = before - (1.0 - self.beta_2) * square * np.sign(before - square)
        return moment
