"""Adam at the server."""

from typing import ClassVar, Literal

import numpy as np

from palimpsest.server.strategies import CARDS
from palimpsest.server.strategies.adaptive import Adaptive
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.records import Array


class FedAdam(Adaptive):
    """v <- b2 v + (1 - b2) D^2 (FedAdam; Reddi et al., ICLR 2021), D the mean update.

    As in Flower, and not in the paper, eta is corrected for the moments' start at 0, with one step more than were
    taken: eta sqrt(1 - b2^(t + 1)) / (1 - b1^(t + 1)) at step t = 1, 2, ...
    """

    card: ClassVar[Card] = CARDS["fedadam"]
    strategy: Literal["fedadam"] = "fedadam"

    def second_moment(self, before: Array, square: Array) -> Array:
        """b2 v + (1 - b2) D^2."""
        moment: Array = self.beta_2 * before + (1.0 - self.beta_2) * square
        return moment

    def rate(self, steps: int) -> float:
        """Eta, corrected as in Flower."""
        corrected = np.sqrt(1.0 - self.beta_2 ** (steps + 1)) / (1.0 - self.beta_1 ** (steps + 1))
        return self.server_learning_rate * float(corrected)
