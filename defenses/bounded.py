"""What defenses of solved models have in common: records of bounded length, and noise paid once for each solution."""

import math
from collections.abc import Callable
from typing import Any, Self

from pydantic import Field, model_validator

from palimpsest.defenses.calibration import one_strength, smallest_noise
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.specs import ModelSpec, Recipe


class BoundedRecords(Defense):
    """Cuts records to a length, and charges one Gaussian mechanism for each solution that is released.

    Attributes:
        noise_multiplier: sigma: deviation of the noise over the sensitivity.
        target_epsilon: in its place: the smallest sigma with which no record pays more for the TRAINING; those who
            stay pay for each retraining on top.
        clip: C: a record's features are cut to this length, for the released model too. The intercept's 1 comes on top.
            Random Fourier features, whose length is at most sqrt 2, stay as they are.
        target_clip: B: regression targets are cut to [-B, B].
    """

    noise_multiplier: float | None = Field(default=None, gt=0)
    target_epsilon: float | None = Field(default=None, gt=0)
    clip: float = Field(default=1.0, gt=0)
    target_clip: float = Field(default=1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _one_strength(cls, given: Any) -> Any:
        return one_strength(given, 5.0)

    def model(self, spec: ModelSpec) -> ModelSpec:
        """The model on cut records."""
        row = 0.0 if spec.features is not None else self.clip
        return spec.model_copy(update={"row_clip": row, "target_clip": self.target_clip})

    def charge(self, recipe: Recipe, size: int) -> Charge:
        """A solution."""
        return Charge(self.sigma)

    def at_unit_noise(self) -> tuple[Defense, float]:
        """Nothing is sampled, and every solution is one step."""
        return self._with(1.0), self.sigma

    def calibrated(self, spends: Callable[[Defense], float]) -> Defense:
        """Find sigma for ``target_epsilon``."""
        if self.target_epsilon is None:
            return self
        sigma = smallest_noise(lambda sigma: spends(self._with(sigma)), self.target_epsilon)
        return self._with(sigma)

    def _with(self, sigma: float) -> Self:
        return self.model_copy(update={"noise_multiplier": sigma, "target_epsilon": None})

    @property
    def sigma(self) -> float:
        """The noise multiplier, once it is known."""
        if self.noise_multiplier is None:
            raise ValueError(f"{self.kind} has no noise multiplier before it is calibrated to a training")
        return self.noise_multiplier


def row_bound(spec: ModelSpec) -> float:
    """R: the longest that [features; 1] of a record can be."""
    features = math.sqrt(2.0) if spec.features is not None else spec.row_clip
    return math.hypot(features, 1.0)


def target_bound(spec: ModelSpec) -> float:
    """The longest that a record's target can be: a one-hot class has length 1."""
    return spec.target_clip if spec.task == "regression" else 1.0
