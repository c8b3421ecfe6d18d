"""How probable a reconstruction can be at most: the trade-off curve of all that read a unit's data.

A unit's data are x, or nothing in their place (replace-by-null); P and Q are the distributions of everything that was
released in the two worlds. An event that a guess without sight of x makes happen with probability at most kappa happens
with probability at most gamma = 1 - f(kappa), f the trade-off function of testing Q against P (Balle et al., S&P 2022;
Hayes et al., NeurIPS 2023; Kaissis et al., 2023; Kulynych et al., NeurIPS 2024). This bounds a probability over x,
training and attack together, whatever the attack knows of the other units. It bounds no median.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from scipy.special import ndtr, ndtri

from palimpsest.defenses.losses import losses
from palimpsest.simulator.world.privacy.account import Spending

_LOWEST, _HIGHEST = -20.0, 40.0


def gaussian_blow_up(mu: float, kappa: float) -> float:
    """gamma = Phi(Phi^-1(kappa) + mu), that of mu-GDP (Dong, Roth, Su, JRSS-B 2022)."""
    return float(ndtr(ndtri(kappa) + mu))


def blow_up(spending: Spending, kappa: float) -> float:
    """gamma: the highest probability, after all was spent, of an event that has at most ``kappa`` without the unit.

    The mechanisms may be chosen adaptively. Without subsampling this is the closed form, mu^2 = sum of steps /
    noise_multiplier^2. With it, gamma is the least of e^epsilon kappa + delta(epsilon) over epsilon, below 0 too: any
    epsilon gives an upper bound, so that the search's precision does not matter. delta is rounded up, and is the larger
    one of the pair's two orders.

    Args:
        spending: of one unit; nothing at all: gamma = kappa. A noise multiplier of 0: gamma = 1.
        kappa: in [0, 1].
    """
    if not 0.0 <= kappa <= 1.0:
        raise ValueError(f"kappa = {kappa}: must be a probability")
    read = {how: steps for how, steps in spending.items() if how[1] > 0.0 and steps > 0}
    if not read:
        return kappa
    if any(noise == 0.0 for noise, _ in read):
        return 1.0
    mu = math.hypot(*(math.sqrt(steps) / noise for (noise, rate), steps in read.items() if rate == 1.0))
    sampled = tuple(sorted((noise, rate, steps) for (noise, rate), steps in read.items() if rate < 1.0))
    unsampled = gaussian_blow_up(math.hypot(*(math.sqrt(steps) / noise for (noise, _), steps in read.items())), kappa)
    return min(unsampled, _least(sampled, mu, kappa)) if sampled else unsampled


def group_blow_up(units: Sequence[Spending], kappa: float) -> float:
    """gamma of an event about several units together: the curve of one unit after that of the other.

    For k units of mu-GDP each it is that of k mu; the worlds in between replace one unit after the other by nothing.

    Args:
        units: what each has spent; the bound holds in whatever order.
        kappa: probability at most without any of them.
    """
    for spending in units:
        kappa = blow_up(spending, kappa)
    return kappa


@lru_cache(maxsize=4096)  # the units of an arm have mostly spent the same, and are asked about the same events
def _least(sampled: tuple[tuple[float, float, int], ...], mu: float, kappa: float) -> float:
    """The least of e^epsilon kappa + delta(epsilon), which has one minimum.

    An epsilon above -log kappa gives more than 1; one below -20 could lower gamma by 2e-9 at most.
    """
    try:
        composed = losses(sampled, mu)
    except OverflowError:  # noise so small that one step's loss has no exponential
        return 1.0

    from scipy.optimize import minimize_scalar  # takes a while to import, and few runs are bounded by steps

    def bound(epsilon: float) -> float:
        return math.exp(epsilon) * kappa + float(composed.get_delta_for_epsilon(epsilon))

    highest = min(_HIGHEST, -math.log(kappa)) if kappa > 0.0 else _HIGHEST
    valley = minimize_scalar(bound, bounds=(_LOWEST, highest), method="bounded", options={"xatol": 1e-6})
    return min(1.0, float(valley.fun))
