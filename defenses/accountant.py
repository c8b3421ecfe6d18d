"""From what a unit has paid to (epsilon, delta): Opacus' accountants on the account's entries.

The account composes everything that a unit took part in, whatever came in between: an accountant built anew each round
would say 1.21 where 50 such rounds cost 4.59.
"""

import math
from functools import lru_cache
from typing import Literal

from palimpsest.simulator.world.privacy.account import Spending

Accountant = Literal["rdp", "prv"]

_WHOLE = (*range(2, 64), 72, 80, 96, 128, 192, 256, 384, 512)


def epsilon(spending: Spending, delta: float, accountant: Accountant = "rdp") -> float:
    """The epsilon of a composition of Poisson-subsampled Gaussian mechanisms at ``delta``; 0 where nothing was paid.

    ``rdp``: Renyi divergences at Opacus' orders and some above them, whole ones first and then the broken ones next to
    the best (every order gives a valid bound; their minimum is what is wanted). ``prv``: Opacus' numerical
    composition, its upper end.
    """
    return _epsilon(tuple(sorted(spending.items())), delta, accountant) if spending else 0.0


@lru_cache(maxsize=100_000)
def _epsilon(paid: tuple[tuple[tuple[float, float], int], ...], delta: float, accountant: Accountant) -> float:
    # Opacus takes a second to import, and most runs spend nothing.
    from opacus.accountants import PRVAccountant, RDPAccountant

    if accountant == "prv":
        exact = PRVAccountant()
        exact.history = [(sigma, rate, steps) for (sigma, rate), steps in paid]
        return float(exact.get_epsilon(delta))
    best = min(_WHOLE, key=lambda order: _bound(paid, delta, order))
    near = [order for order in RDPAccountant.DEFAULT_ALPHAS if order != int(order) and abs(order - best) < 1.0]
    return max(0.0, min(_bound(paid, delta, order) for order in (best, *near)))


def _bound(paid: tuple[tuple[tuple[float, float], int], ...], delta: float, order: float) -> float:
    """Epsilon from the Renyi divergence at one order (Balle et al., AISTATS 2020, theorem 21)."""
    divergence = sum(steps * _divergence(sigma, rate, order) for (sigma, rate), steps in paid)
    return divergence - (math.log(delta) + math.log(order)) / (order - 1.0) + math.log1p(-1.0 / order)


@lru_cache(maxsize=100_000)
def _divergence(sigma: float, rate: float, order: float) -> float:
    from opacus.accountants.analysis.rdp import compute_rdp

    return float(compute_rdp(q=rate, noise_multiplier=sigma, steps=1, orders=float(order)))
