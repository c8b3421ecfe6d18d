"""No defense, on the same path as every defense."""

from typing import Literal

from palimpsest.simulator.world.protocols.defense import Defense


class NoDefense(Defense):
    """Releases what was computed. Guarantee: none (epsilon is infinite)."""

    kind: Literal["none"] = "none"
