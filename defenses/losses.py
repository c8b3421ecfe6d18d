"""The distribution of the privacy loss of a composition, by dp-accounting."""

import math
from functools import lru_cache, reduce
from typing import TYPE_CHECKING

import numpy as np

from palimpsest.simulator.world.records import Array

if TYPE_CHECKING:
    from dp_accounting.pld.pld_pmf import PLDPmf
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

_FINEST, _POINTS = 1e-4, 10_000


@lru_cache(maxsize=32)
def losses(sampled: tuple[tuple[float, float, int], ...], mu: float) -> "PrivacyLossDistribution":
    """Distribution of the privacy loss of (noise multiplier, rate, steps) and of mu-GDP, composed, rounded up.

    Losses are rounded to multiples of an interval that lets a single step have some 10,000 of them.
    """
    # Imported where it is needed: most runs spend nothing.
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

    reach = [1.0 / noise for noise, _, _ in sampled] + [mu]
    interval = max(_FINEST, *((0.5 * one**2 + 10.0 * one) / _POINTS for one in reach))
    parts = [_repeated(noise, rate, steps, interval) for noise, rate, steps in sampled]
    if mu > 0.0:
        parts.append(sampled_gaussian(1.0 / mu, 1.0, interval))
    return reduce(PrivacyLossDistribution.compose, parts)


@lru_cache(maxsize=32)
def _repeated(noise: float, rate: float, steps: int, interval: float) -> "PrivacyLossDistribution":
    """So many steps alike: a training's, to which each way of unlearning adds its own."""
    return _one_step(noise, rate, interval).self_compose(steps)


@lru_cache(maxsize=32)
def _one_step(noise: float, rate: float, interval: float) -> "PrivacyLossDistribution":
    return sampled_gaussian(noise, rate, interval)


def sampled_gaussian(noise: float, rate: float, interval: float) -> "PrivacyLossDistribution":
    """What dp-accounting's ``from_gaussian_mechanism`` gives for one step, but for rounding of floats, and sooner.

    It computes 10,000 cut-offs one by one: most of the time that a calibration took.

    Args:
        noise: noise multiplier, above 0.
        rate: of the Poisson sampling, in (0, 1].
        interval: of which losses are multiples.

    Raises:
        OverflowError: a step's loss has no exponential, since the noise is so small.
    """
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
    from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss

    ways = (AdjacencyType.REMOVE, AdjacencyType.ADD) if rate < 1.0 else (AdjacencyType.REMOVE,)
    losses_of = [GaussianPrivacyLoss(noise, sampling_prob=rate, adjacency_type=way) for way in ways]
    return PrivacyLossDistribution(
        *(_rounded(loss, loss.adjacency_type is AdjacencyType.ADD, interval) for loss in losses_of)
    )


def _rounded(loss: "GaussianPrivacyLoss", added: bool, interval: float) -> "PLDPmf":
    """The loss rounded up to multiples of the interval, by connecting the dots (Doroshenko et al., PoPETs 2022)."""
    from dp_accounting.pld.pld_pmf import create_pmf_pessimistic_connect_dots_fixed_gap

    bounds = loss.connect_dots_bounds()
    low, high = math.floor(bounds.epsilon_lower / interval), math.ceil(bounds.epsilon_upper / interval)
    deltas = _hockey_stick(loss, added, np.arange(low, high + 1) * interval)
    return create_pmf_pessimistic_connect_dots_fixed_gap(interval, low, high, deltas)


def _hockey_stick(loss: "GaussianPrivacyLoss", added: bool, epsilons: Array) -> Array:
    """The divergence at each epsilon: of the outputs up to the cut-off where the loss is epsilon."""
    rate = loss.sampling_prob
    edge = math.log1p(-rate) if rate < 1.0 else -math.inf
    toward = -epsilons if added else epsilons
    inside = toward > edge
    deltas = np.zeros(len(epsilons)) if added else -np.expm1(np.minimum(epsilons, 0.0))
    above = toward[inside] - math.log(rate)
    # Without sampling the loss would be log(1 + (exp(toward) - 1) / rate).
    unsampled = above + np.log1p(-np.exp(edge - math.log(rate) - above))
    at_noise = unsampled * loss.standard_deviation**2
    cut_offs = 0.5 + at_noise if added else -0.5 - at_noise
    deltas[inside] = loss.mu_upper_cdf(cut_offs) - np.exp(epsilons[inside] + loss.mu_lower_log_cdf(cut_offs))
    return deltas.clip(0.0, 1.0)
