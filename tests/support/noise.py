"""A test that noise has the deviation it should, and no other."""

import numpy as np
from scipy.stats import chi2, kstest

from palimpsest.simulator.world.records import Array

SURE = 1e-6
"""A right deviation is taken for a wrong one this rarely; the seeds are fixed, so it either never is or always."""


def is_normal(sample: Array, deviation: float) -> bool:
    """Whether a sample may come from N(0, deviation^2): its sum of squares is chi-squared, its shape is a bell's."""
    scaled = np.asarray(sample, np.float64).ravel() / deviation
    tail = chi2.cdf(float(scaled @ scaled), len(scaled))
    return bool(min(tail, 1.0 - tail) > SURE / 2.0 and kstest(scaled, "norm").pvalue > SURE)


def assert_deviation(sample: Array, deviation: float) -> None:
    """Accept the deviation, and reject two thirds and three halves of it."""
    assert is_normal(sample, deviation)
    assert not is_normal(sample, deviation * 2.0 / 3.0)
    assert not is_normal(sample, deviation * 3.0 / 2.0)
