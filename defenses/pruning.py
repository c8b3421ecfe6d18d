"""Released models without their small parameters."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.defenses import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.privacy.noise import Noise
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.records import Release


class Pruning(Defense):
    """Set the smallest parameters of every release to 0, by magnitude over the whole model (Hu et al., S&P 2024).

    The server goes on with the model as it is.

    Guarantee: none: what is left is exact, and which parameters are left depends on the data too.

    Attributes:
        share: of the parameters that become 0; where several are equally small, the later ones stay.
    """

    card: ClassVar[Card] = CARDS["pruning"]
    kind: Literal["pruning"] = "pruning"
    share: float = Field(default=0.3, gt=0, lt=1)

    def release(self, release: Release, noise: Noise) -> Release:
        """Keep the large parameters."""
        values = flat(release.params)
        smallest = np.argsort(np.abs(values), kind="stable")[: round(self.share * len(values))]
        values[smallest] = 0.0
        return replace(release, params=unflat(values, release.params))
