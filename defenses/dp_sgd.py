"""Record-level differential privacy inside each client."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from palimpsest.defenses import CARDS
from palimpsest.defenses.calibration import one_strength, smallest_noise
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.specs import PrivateSteps, Recipe


class DpSgd(Defense):
    """Clients step by clipped, noised sums over Poisson batches (DP-SGD; Abadi et al., CCS 2016).

    Each record's gradient is cut to length C, N(0, (sigma C)^2) is added to the sum over a batch, and the step divides
    by the expected batch size. The semantics and the accounting are Opacus'. The noise is each client's own, so the
    server sees no record in the clear either, and whatever it does with single updates is post-processing.

    Guarantee: (epsilon, delta)-differential privacy of every record, neighbours being equal but for one record replaced
    by null: over all rounds that its client took part in, retraining, recovery and ascent included. A client's size
    before any deletion is public, is its weight, and sets its sampling rate 1 / ceil(size / batch_size). The
    regulariser reads no data and is neither clipped nor noised.

    Attributes:
        clip: C.
        noise_multiplier: sigma.
        target_epsilon: in its place: the smallest sigma with which no record pays more for the TRAINING; what follows
            a deletion is paid on top.
    """

    card: ClassVar[Card] = CARDS["dp-sgd"]
    kind: Literal["dp-sgd"] = "dp-sgd"
    clip: float = Field(default=1.0, gt=0)
    noise_multiplier: float | None = Field(default=None, gt=0)
    target_epsilon: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _one_strength(cls, given: Any) -> Any:
        return one_strength(given, 1.0)

    def local_training(self, recipe: Recipe) -> Recipe:
        """The same recipe by private steps."""
        return recipe.model_copy(update={"private": PrivateSteps(clip=self.clip, noise_multiplier=self._sigma)})

    def charge(self, recipe: Recipe, size: int) -> Charge:
        """A round: as many Poisson batches as it has steps."""
        batches = max(1, -(-size // recipe.batch_size))
        return Charge(self._sigma, 1.0 / batches, recipe.local_steps or batches * recipe.local_epochs)

    def charge_once(self) -> Charge:
        """One noised sum over everything: nothing is sampled, so nothing amplifies."""
        return Charge(self._sigma)

    def at_unit_noise(self) -> tuple[Defense, float]:
        """Rates and steps follow from sizes and batches alone."""
        return self._with(1.0), self._sigma

    def calibrated(self, spends: Callable[[Defense], float]) -> Defense:
        """Find sigma for ``target_epsilon``."""
        target = self.target_epsilon
        if target is None:
            return self
        sigma = smallest_noise(lambda sigma: spends(self._with(sigma)), target)
        return self._with(sigma)

    def _with(self, sigma: float) -> "DpSgd":
        return DpSgd(clip=self.clip, noise_multiplier=sigma)

    @property
    def _sigma(self) -> float:
        if self.noise_multiplier is None:
            raise ValueError("dp-sgd with target_epsilon has no noise multiplier before it is calibrated to a training")
        return self.noise_multiplier
