"""The distribution of the privacy loss of a composition, by dp-accounting."""

from functools import lru_cache, reduce
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

_FINEST, _POINTS = 1e-4, 10_000


@lru_cache(maxsize=32)
def losses(sampled: tuple[tuple[float, float, int], ...], mu: float) -> "PrivacyLossDistribution":
    """Distribution of the privacy loss of (noise multiplier, rate, steps) and of mu-GDP, composed, rounded up.

    Losses are rounded to multiples of an interval that lets a single step have some 10,000 of them.
    """
    # Imported where it is needed: most runs spend nothing.
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution, from_gaussian_mechanism

    reach = [1.0 / noise for noise, _, _ in sampled] + [mu]
    interval = max(_FINEST, *((0.5 * one**2 + 10.0 * one) / _POINTS for one in reach))
    parts = [
        from_gaussian_mechanism(noise, sampling_prob=rate, value_discretization_interval=interval).self_compose(steps)
        for noise, rate, steps in sampled
    ]
    if mu > 0.0:
        parts.append(from_gaussian_mechanism(1.0 / mu, value_discretization_interval=interval))
    return reduce(PrivacyLossDistribution.compose, parts)
