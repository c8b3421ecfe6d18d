"""How much Gaussian noise hides a difference: the analytic Gaussian mechanism (Balle and Wang, ICML 2018)."""

import math

from scipy.special import log_ndtr


def gaussian_delta(epsilon: float, sigma: float, sensitivity: float) -> float:
    """The smallest delta for which noise of deviation sigma is (epsilon, delta)-private.

    delta = Phi(s / 2 sigma - epsilon sigma / s) - e^epsilon Phi(-s / 2 sigma - epsilon sigma / s), s the sensitivity.
    """
    near, far = sensitivity / (2.0 * sigma), epsilon * sigma / sensitivity
    return float(math.exp(log_ndtr(near - far)) - math.exp(epsilon + log_ndtr(-near - far)))


def gaussian_sigma(epsilon: float, delta: float, sensitivity: float) -> float:
    """The smallest deviation of noise that is (epsilon, delta)-private for a difference of at most ``sensitivity``.

    Unlike the classical sqrt(2 ln(1.25 / delta)) s / epsilon it holds for every epsilon, above 1 too, and is never
    larger than needed.

    Args:
        epsilon: above 0.
        delta: between 0 and 1.
        sensitivity: above 0, in the Euclidean norm.

    Example:
        >>> sigma = gaussian_sigma(epsilon=1.0, delta=1e-5, sensitivity=1.0)
        >>> round(sigma, 3), f"{gaussian_delta(1.0, sigma, 1.0):.1e}"
        (3.731, '1.0e-05')
    """
    if epsilon <= 0.0 or not 0.0 < delta < 1.0 or sensitivity <= 0.0:
        raise ValueError(
            f"epsilon = {epsilon}, delta = {delta}, sensitivity = {sensitivity}: must be positive, delta < 1"
        )

    from scipy.optimize import brentq  # takes a while to import, and few runs have such noise

    def excess(log_sigma: float) -> float:
        return gaussian_delta(epsilon, math.exp(log_sigma), 1.0) - delta

    low, high = -1.0, 1.0
    while excess(low) < 0.0:
        low *= 2.0
    while excess(high) > 0.0:
        high *= 2.0
    return sensitivity * math.exp(brentq(excess, low, high, xtol=1e-14))
