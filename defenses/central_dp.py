"""Client-level differential privacy at the server."""

import math
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from palimpsest.defenses import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.protocols.defense import Defense, Memory, Round
from palimpsest.simulator.world.protocols.federation import BlockResult
from palimpsest.simulator.world.specs import Recipe


class CentralDp(Defense):
    """Equally weighted, clipped updates and noise on their sum (DP-FedAvg; McMahan et al., ICLR 2018).

    A round steps by (sum of u_k min(1, S / ||u_k||) + N(0, (z S)^2)) / m, m the EXPECTED cohort: weights by size would
    raise the sensitivity to S max w, a smaller cohort must not shrink the noise, and one that is missing altogether
    still gets it. With a target quantile S follows the quantile of the lengths (Andrew et al., NeurIPS 2021): S <- S
    exp(-eta (share unclipped - target)), the share from a noised count of +1/2 and -1/2. The two noises together cost
    what z says: updates get z' = (z^-2 - (2 sigma_b)^-2)^(-1/2) in place of z.

    Guarantee: (epsilon, delta)-differential privacy of every client, neighbours being equal but for one client's data
    replaced by null, against who sees the released models. The server is trusted: it sees updates in the clear, so
    methods that use single updates are refused. A client pays for the rounds it took part in; with
    ``privacy.sampling_is_secret`` and Poisson sampling everybody pays for every round, at the sampling rate.

    Attributes:
        noise_multiplier: z.
        clip: S; where it adapts, what it starts from.
        target_quantile: share of updates that should not be clipped; None: S stays.
        clip_learning_rate: eta.
        count_noise: sigma_b, deviation of the noise on the count; None: m / 20, but at least z.
    """

    card: ClassVar[Card] = CARDS["central-dp"]
    kind: Literal["central-dp"] = "central-dp"
    noise_multiplier: float = Field(default=1.0, gt=0)
    clip: float = Field(default=1.0, gt=0)
    target_quantile: float | None = Field(default=None, gt=0, lt=1)
    clip_learning_rate: float = Field(default=0.2, gt=0)
    count_noise: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _count_affordable(self) -> "CentralDp":
        if self.count_noise is not None and 2.0 * self.count_noise <= self.noise_multiplier:
            raise ValueError(
                f"count_noise = {self.count_noise:g} alone costs as much as noise_multiplier = "
                f"{self.noise_multiplier:g} allows; give more than half of it"
            )
        return self

    def client_update(self, memory: Memory) -> float:
        """S, as it stands."""
        return memory.get("clip", self.clip)

    def aggregate(self, total: BlockResult, about: Round) -> tuple[BlockResult, Memory]:
        """Noise the sum, and weigh it by the expected cohort."""
        clip = self.client_update(about.memory)
        deviation = clip * self.update_noise(about.expected)
        sums = {name: v + deviation * about.noise.standard_normal(v.shape) for name, v in total.sums.items()}
        noised = BlockResult(sums, about.expected, total.metrics)
        if self.target_quantile is None:
            return noised, about.memory
        centred = total.metrics.get("unclipped", 0.0) - 0.5 * total.metrics.get("counted", 0.0)
        count = centred + self._count_noise(about.expected) * float(about.noise.standard_normal((1,))[0])
        share = 0.5 + count / about.expected
        return noised, {"clip": clip * math.exp(-self.clip_learning_rate * (share - self.target_quantile))}

    def update_noise(self, expected: float) -> float:
        """Deviation of the noise on the sum over S: z, or more where a count is paid from the same purse."""
        if self.target_quantile is None:
            return self.noise_multiplier
        return 1.0 / math.sqrt(self.noise_multiplier**-2 - (2.0 * self._count_noise(expected)) ** -2)

    def charge(self, recipe: Recipe, size: int) -> Charge:
        """A round: one Gaussian mechanism."""
        return Charge(self.noise_multiplier)

    def at_unit_noise(self) -> tuple[Defense, float]:
        """A round is one step, and the noise on the count is within the same price."""
        return self.model_copy(update={"noise_multiplier": 1.0, "target_quantile": None}), self.noise_multiplier

    def _count_noise(self, expected: float) -> float:
        return self.count_noise or max(expected / 20.0, self.noise_multiplier)
