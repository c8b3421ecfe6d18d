"""What defenses of solved models share: records of bounded length, and one charge for each solution."""

import math
from typing import ClassVar

from pydantic import Field

from palimpsest.defenses.calibrated import CalibratedNoise
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.specs import ModelSpec, Recipe


class BoundedRecords(CalibratedNoise):
    """Cuts records to a length, and charges one Gaussian mechanism for each solution that is released.

    Attributes:
        clip: C: a record's features are cut to this length, for the released model too. The intercept's 1 comes on top.
            Random Fourier features, whose length is at most sqrt 2, stay as they are.
        target_clip: B: regression targets are cut to [-B, B].
    """

    default_noise: ClassVar[float] = 5.0
    clip: float = Field(default=1.0, gt=0)
    target_clip: float = Field(default=1.0, gt=0)

    def model(self, spec: ModelSpec) -> ModelSpec:
        """The model on cut records."""
        row = 0.0 if spec.features is not None else self.clip
        return spec.model_copy(update={"row_clip": row, "target_clip": self.target_clip})

    def charge(self, recipe: Recipe, size: int) -> Charge:
        """A solution."""
        return Charge(self.sigma)


def row_bound(spec: ModelSpec) -> float:
    """R: the longest that [features; 1] of a record can be."""
    features = math.sqrt(2.0) if spec.features is not None else spec.row_clip
    return math.hypot(features, 1.0)


def target_bound(spec: ModelSpec) -> float:
    """The longest that a record's target can be: a one-hot class has length 1."""
    return spec.target_clip if spec.task == "regression" else 1.0
