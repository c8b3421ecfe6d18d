"""Ridge from its sufficient statistics."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from palimpsest.simulator.world.protocols.federation import Factor, Statistics
from palimpsest.simulator.world.records import Array


class RidgeSolver:
    """Minimises 1/2 ||Y - X~ Theta||^2 + lambda/2 ||Theta||^2 given X~^T X~ and X~^T Y, by one Cholesky factorisation.

    Args:
        statistics: over all records.
        regularisation: lambda > 0.
    """

    def __init__(self, statistics: Statistics, regularisation: float) -> None:
        self._statistics = statistics
        self._lambda = regularisation
        self._cholesky = _factored(statistics.gram, regularisation)

    def solution(self) -> Array:
        """``[d + 1, Q]`` Theta."""
        theta: Array = cho_solve(self._cholesky, self._statistics.moment)
        return theta

    def without(self, factor: Factor) -> Array:
        """``[d + 1, Q]`` Theta of the statistics less ``factor``.

        Few records: Woodbury's identity on the factorisation at hand. Many (a quarter of the dimension or more): the
        difference is factored afresh.
        """
        root, width = factor.root, len(self._statistics.gram)
        moment = self._statistics.moment - factor.moment
        if 4 * len(root) >= width:
            left = self._statistics.gram - root.T @ root
            refit: Array = cho_solve(_factored(left, self._lambda), moment)
            return refit
        solved = cho_solve(self._cholesky, np.concatenate([moment, root.T], axis=1))
        plain, sideways = solved[:, : moment.shape[1]], solved[:, moment.shape[1] :]
        capacity = np.eye(len(root)) - root @ sideways
        updated: Array = plain + sideways @ np.linalg.solve(capacity, root @ plain)
        return updated


def _factored(gram: Array, regularisation: float) -> tuple[Array, bool]:
    """What ``cho_solve`` takes, of ``gram + regularisation I``."""
    total = gram.copy()
    total[np.diag_indices_from(total)] += regularisation
    factor: tuple[Array, bool] = cho_factor(total.T, overwrite_a=True)  # by columns, as LAPACK wants it: no copy
    return factor
