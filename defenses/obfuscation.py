"""Noise on every released model, without an account of what it hides."""

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.defenses import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.privacy.noise import Noise
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.records import Release


class Obfuscation(Defense):
    """Add N(0, sigma^2) to every parameter of every release (parameter obfuscation; Hu et al., IEEE S&P 2024).

    The server goes on with the model as it is; each release has noise of its own.

    Guarantee: none by itself: nothing bounds what one record moves, so no sigma hides it for certain, and whoever hears
    the same model n times averages the noise away to sigma / sqrt(n). ``dp-sgd``, ``dp-statistics`` and
    ``output-perturbation`` bound it first.

    Attributes:
        sigma: deviation of the noise on every parameter.
    """

    card: ClassVar[Card] = CARDS["obfuscation"]
    kind: Literal["obfuscation"] = "obfuscation"
    sigma: float = Field(default=0.01, gt=0)

    def release(self, release: Release, noise: Noise) -> Release:
        """Noise every parameter."""
        noised = {
            name: (value + self.sigma * noise.standard_normal(value.shape)).astype(value.dtype)
            for name, value in release.params.items()
        }
        return replace(release, params=noised)
