"""What the adaptive strategies of Reddi et al. (ICLR 2021) share: moments of the mean update."""

import numpy as np
from pydantic import Field

from palimpsest.simulator.world.protocols.strategy import Received, ServerState, Strategy
from palimpsest.simulator.world.records import Array, Params


class Adaptive(Strategy):
    """m <- b1 m + (1 - b1) D, v by the method's rule, theta <- theta + eta m / (sqrt(v) + tau); D the mean update.

    Both moments start at 0, as in Flower; the paper starts v at tau^2 or above.

    Attributes:
        server_learning_rate: eta, as in Flower.
        beta_1, beta_2, tau: as in the paper.
    """

    server_learning_rate: float = Field(default=0.1, gt=0)
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.99, ge=0, lt=1)
    tau: float = Field(default=1e-3, gt=0)

    def step(self, received: Received, state: ServerState) -> tuple[Params, ServerState]:
        """Return eta m / (sqrt(v) + tau); the state keeps m and v."""
        steps = state.steps + 1
        first, second, moved = {}, {}, {}
        for name, mean in received.mean.items():
            m, v = (np.asarray(state.arrays.get(key, {}).get(name, np.zeros_like(mean))) for key in ("first", "second"))
            first[name] = self.beta_1 * m + (1.0 - self.beta_1) * mean
            second[name] = self.second_moment(v, mean**2)
            moved[name] = self.rate(steps) * first[name] / (np.sqrt(second[name]) + self.tau)
        return moved, ServerState(steps, {"first": first, "second": second})

    def second_moment(self, before: Array, square: Array) -> Array:
        """The new v from the old one and D^2."""
        raise NotImplementedError(f"{self.strategy} has no rule for its second moment")

    def rate(self, steps: int) -> float:
        """eta in the round of so many steps, this one included."""
        return self.server_learning_rate
