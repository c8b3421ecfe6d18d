"""Record-level differential privacy inside each client."""

from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.defenses import CARDS
from palimpsest.defenses.calibrated import CalibratedNoise
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.specs import PrivateSteps, Recipe


class DpSgd(CalibratedNoise):
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
    """

    card: ClassVar[Card] = CARDS["dp-sgd"]
    kind: Literal["dp-sgd"] = "dp-sgd"
    clip: float = Field(default=1.0, gt=0)

    def local_training(self, recipe: Recipe) -> Recipe:
        """The same recipe by private steps."""
        return recipe.model_copy(update={"private": PrivateSteps(clip=self.clip, noise_multiplier=self.sigma)})

    def charge(self, recipe: Recipe, size: int) -> Charge:
        """A round: as many Poisson batches as it has steps."""
        batches = max(1, -(-size // recipe.batch_size))
        return Charge(self.sigma, 1.0 / batches, recipe.local_steps or batches * recipe.local_epochs)

    def charge_once(self) -> Charge:
        """One noised sum over everything: nothing is sampled, so nothing amplifies."""
        return Charge(self.sigma)
