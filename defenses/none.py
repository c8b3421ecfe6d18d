"""No defense, on the same path as every defense."""

from typing import Literal

from simulator.world.records import Release
from simulator.world.specs import Frozen


class NoDefense(Frozen):
    """Releases what was computed. Guarantee: none (epsilon is infinite)."""

    kind: Literal["none"] = "none"

    def release(self, release: Release) -> Release:
        """Return the release as it is."""
        return release
