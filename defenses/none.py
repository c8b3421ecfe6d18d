"""No defense, on the same path as every defense."""

from typing import ClassVar, Literal

from palimpsest.defenses import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.defense import Defense


class NoDefense(Defense):
    """Releases what was computed. Guarantee: none (epsilon is infinite)."""

    card: ClassVar[Card] = CARDS["none"]
    kind: Literal["none"] = "none"
