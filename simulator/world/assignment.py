"""Which answer belongs to which record."""

import numpy as np

from palimpsest.simulator.world.records import Array


def assigned(likeness: Array) -> Array:
    """``[n]`` the column of each row, no column twice, so that the sum of their likeness is largest.

    Args:
        likeness: ``[n, m]`` of n records and m answers, m at least n.
    """
    if likeness.shape == (1, 1):
        return np.zeros(1, dtype=np.int64)
    from scipy.optimize import linear_sum_assignment  # takes a while to import, and one record does not need it

    columns: Array = linear_sum_assignment(-likeness)[1]
    return columns
