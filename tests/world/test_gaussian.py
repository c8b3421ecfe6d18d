"""The analytic Gaussian mechanism against the definition of (epsilon, delta)."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from palimpsest.simulator.world.privacy.gaussian import gaussian_delta, gaussian_sigma


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_delta_is_the_largest_excess_of_probability(epsilon: float, sigma: float) -> None:
    """delta is the integral of max(0, p - e^epsilon q) over two Gaussians a sensitivity apart."""
    p, q = norm(1.5, sigma), norm(0.0, sigma)
    crossing = 0.75 + epsilon * sigma**2 / 1.5
    defined, _ = quad(lambda x: p.pdf(x) - math.exp(epsilon) * q.pdf(x), crossing, crossing + 40 * sigma, epsabs=1e-13)
    assert gaussian_delta(epsilon, sigma, 1.5) == pytest.approx(defined, abs=1e-10)


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 10.0, 50.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 0.2])
def test_sigma_spends_delta_and_no_more(epsilon: float, delta: float) -> None:
    sigma = gaussian_sigma(epsilon, delta, 3.0)
    assert gaussian_delta(epsilon, sigma, 3.0) == pytest.approx(delta, rel=1e-8)
    assert gaussian_delta(epsilon, sigma * 1.5, 3.0) < delta < gaussian_delta(epsilon, sigma / 1.5, 3.0)


def test_the_classical_bound_is_larger_below_one_and_fails_above() -> None:
    def classical(epsilon: float) -> float:
        return float(np.sqrt(2 * np.log(1.25 / 1e-5)) / epsilon)

    assert gaussian_sigma(0.5, 1e-5, 1.0) < classical(0.5)
    assert gaussian_sigma(50.0, 1e-5, 1.0) > classical(50.0)
