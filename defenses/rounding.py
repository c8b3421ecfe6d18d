"""Released parameters in fewer bits."""

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.defenses import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.privacy.noise import Noise
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.protocols.transcript import rounded
from palimpsest.simulator.world.records import Release


class Rounding(Defense):
    """Release every parameter to so many significant bits, to the nearest; the server goes on with all of them.

    Guarantee: none: a deletion that moves a parameter by more than its last bit is seen to that bit.

    Attributes:
        bits: significant ones, the leading one included (float32 has 24, float64 53).
    """

    card: ClassVar[Card] = CARDS["rounding"]
    kind: Literal["rounding"] = "rounding"
    bits: int = Field(default=8, ge=1, le=52)

    def release(self, release: Release, noise: Noise) -> Release:
        """Round every parameter."""
        return replace(release, params={name: rounded(value, self.bits) for name, value in release.params.items()})
