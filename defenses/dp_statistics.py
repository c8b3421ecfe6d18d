"""Ridge from noised sufficient statistics."""

import math
from typing import ClassVar, Literal

import numpy as np

from palimpsest.defenses import CARDS
from palimpsest.defenses.bounded import BoundedRecords, row_bound, target_bound
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.privacy.noise import Noise
from palimpsest.simulator.world.protocols.federation import Statistics
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import ModelSpec

_CERTAINTY = 0.05


class DpStatistics(BoundedRecords):
    """Solve ridge from X~^T X~ and X~^T Y with Gaussian noise, and a regulariser to match (AdaSSP; Wang, UAI 2018).

    Replacing a record by null changes the Gram matrix by at most R^2 in Frobenius norm, its least eigenvalue by at most
    R^2, and the moment by at most R B, R^2 = C^2 + 1. Each of the three gets noise of deviation sqrt 3 sigma times its
    own bound (the Gram matrix a symmetric one): together they are one Gaussian mechanism of multiplier sigma. The
    regulariser grows by what the noise can take from the least eigenvalue, less a noised lower estimate of that one.

    The server keeps the exact statistics of what is retained and draws FRESH noise for every release: noise that is
    kept through a downdate cancels out of the pair, and the deleted record shows as if there were none.

    Guarantee: (epsilon, delta)-differential privacy of every record against who sees the releases; a record pays for
    each release that it is in, a deleted one for none after its deletion.
    """

    card: ClassVar[Card] = CARDS["dp-statistics"]
    kind: Literal["dp-statistics"] = "dp-statistics"

    def statistics(self, exact: Statistics, spec: ModelSpec, noise: Noise) -> Statistics:
        """Noise the statistics; the regulariser's growth is on the Gram matrix's diagonal."""
        bound, width = row_bound(spec), len(exact.gram)
        deviation = math.sqrt(3.0) * self.sigma * bound**2
        gram = exact.gram + deviation * _symmetric(noise, width)
        moment_deviation = math.sqrt(3.0) * self.sigma * bound * target_bound(spec)
        moment = exact.moment + moment_deviation * noise.standard_normal(exact.moment.shape)
        least = float(np.linalg.eigvalsh(exact.gram)[0]) + deviation * float(noise.standard_normal((1,))[0])
        surely = max(0.0, least - deviation * math.sqrt(2.0 * math.log(1.0 / _CERTAINTY)))
        reach = deviation * math.sqrt(width * math.log(2.0 * width**2 / _CERTAINTY))
        growth = max(0.0, reach - surely - spec.regularisation)
        return Statistics(gram + growth * np.eye(width), moment, exact.count)


def _symmetric(noise: Noise, width: int) -> Array:
    """``[width, width]`` N(0, 1) on and above the diagonal, mirrored below it."""
    upper: Array = np.triu(noise.standard_normal((width, width)))
    mirrored: Array = upper + np.triu(upper, 1).T
    return mirrored
