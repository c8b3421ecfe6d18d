"""Intervals over resampled deletions: the records of one deletion are no independent draws."""

from collections.abc import Sequence

import numpy as np

from palimpsest.simulator.world.records import Array

RESAMPLES = 1000


def interval_of_mean(by_case: Sequence[Array], rng: np.random.Generator) -> list[float]:
    """95 % percentile interval of the mean over all records, cases resampled.

    Args:
        by_case: values of each case's records.
        rng: draws the resamples.
    """
    sums, sizes = np.array([values.sum() for values in by_case]), np.array([values.size for values in by_case])
    draws = rng.integers(0, len(sums), (RESAMPLES, len(sums)))
    low, high = np.percentile(sums[draws].sum(axis=1) / sizes[draws].sum(axis=1), [2.5, 97.5])
    return [float(low), float(high)]


def interval_of_median(values: Array, rng: np.random.Generator) -> list[float]:
    """95 % percentile interval of the median over deletions, one value each.

    Args:
        values: ``[deletions]``.
        rng: draws the resamples.
    """
    draws = rng.integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return [float(low), float(high)]
