"""Unlearned networks released at another point that computes the same."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.defenses import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.rescaling import hidden_sizes, rescaled
from palimpsest.simulator.world.privacy.noise import Noise
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.records import Release


class Teleportation(Defense):
    """Every release from an unlearning on is rescaled at random, unit by unit (after WARP; Maheri et al., 2512.00272).

    A hidden unit's weights and bias are multiplied by d = exp(sigma z), z ~ N(0, 1), and the next layer's weights from
    it by 1/d: the network computes what it did, and its parameters are far from those before. The server goes on with
    the model as it is; each release has scales of its own.

    WARP interleaves steps along symmetries with the unlearning, chosen to lower the forgotten records' gradients and to
    disperse parameters, in the null space of what the retained records activate. A federation's server has no retained
    record, so that the exact symmetry of ReLU networks is all that is used here, and nothing is chosen.

    Guarantee: none. A loss is constant along the rescalings, so that its gradient is orthogonal to them: who rescales
    the release back to the point nearest to the model before (``inversion`` with ``realigns``) has the change again, up
    to its square.

    Attributes:
        sigma: deviation of the logarithm of a unit's scale; default: ours.
    """

    card: ClassVar[Card] = CARDS["teleportation"]
    kind: Literal["teleportation"] = "teleportation"
    sigma: float = Field(default=0.5, gt=0, le=3)

    def release(self, release: Release, noise: Noise) -> Release:
        """Rescale what comes of an unlearning; training is released as it is."""
        if release.phase not in ("unlearning", "recovery"):
            return release
        scales = [np.exp(self.sigma * noise.standard_normal((size,))) for size in hidden_sizes(release.params)]
        return replace(release, params=rescaled(release.params, scales))
