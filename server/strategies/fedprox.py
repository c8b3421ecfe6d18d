"""Federated averaging with a proximal term at the clients."""

from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.server.strategies import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.strategy import Strategy
from palimpsest.simulator.world.specs import Recipe


class FedProx(Strategy):
    """Clients train on their loss + mu / 2 ||theta_k - theta||^2, theta the round's start (Li et al., MLSys 2020).

    The server averages as in fedavg.

    Attributes:
        proximal_mu: mu; the paper tunes it between 0.001 and 1 for each data set. Default: ours.
    """

    card: ClassVar[Card] = CARDS["fedprox"]
    strategy: Literal["fedprox"] = "fedprox"
    proximal_mu: float = Field(default=0.1, ge=0)

    def local_training(self, recipe: Recipe) -> Recipe:
        """With the proximal term."""
        return recipe.model_copy(update={"proximal": self.proximal_mu})
