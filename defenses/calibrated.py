"""What private defenses have in common: a noise multiplier, given or found for an epsilon."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from palimpsest.defenses.calibration import smallest_noise
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.specs import either

NoiseMultiplier = Annotated[float, Field(ge=1e-6, le=1e6)]


class CalibratedNoise(Defense):
    """Gaussian noise of a given strength, or of the strength that an epsilon asks for.

    Attributes:
        noise_multiplier: sigma: deviation of the noise over the sensitivity; at least 1e-6, below which an epsilon
            says nothing.
        target_epsilon: in its place: the smallest sigma with which no unit pays more for the TRAINING; what follows a
            deletion is paid on top.
        default_noise: sigma where neither is given.
    """

    default_noise: ClassVar[float] = 1.0
    noise_multiplier: NoiseMultiplier | None = None
    target_epsilon: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _given_strength(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if either(given, ("noise_multiplier", "target_epsilon"), "each set the noise; give one"):
            return given
        return given | {"noise_multiplier": cls.default_noise}

    def calibrated(self, spends: Callable[[Defense], float]) -> Defense:
        """Find sigma for ``target_epsilon``.

        Raises:
            ValueError: no sigma reaches it.
        """
        if self.target_epsilon is None:
            return self
        return self._with(smallest_noise(lambda sigma: spends(self._with(sigma)), self.target_epsilon))

    def at_unit_noise(self) -> tuple[Defense, float] | None:
        """What is charged follows from sizes, batches and rounds, and sigma alone scales its noise."""
        return self._with(1.0), self.sigma

    def _with(self, sigma: float) -> Self:
        return type(self).model_validate(self.model_dump() | {"noise_multiplier": sigma, "target_epsilon": None})

    @property
    def sigma(self) -> float:
        """The noise multiplier, once it is known."""
        if self.noise_multiplier is None:
            raise ValueError(f"{self.kind} has no noise multiplier before it is calibrated to a training")
        return self.noise_multiplier
