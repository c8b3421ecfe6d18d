"""Ridge from its sufficient statistics."""

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from palimpsest.simulator.world.protocols.federation import Factor, Statistics
from palimpsest.simulator.world.records import Array

COLUMNS = 64
"""Right-hand sides that are solved for at once: fewer leave the processor waiting for the factorisation."""


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

    @cached_property
    def solution(self) -> Array:
        """``[d + 1, Q]`` Theta."""
        solved: Array = cho_solve(self._cholesky, self._statistics.moment)
        return solved

    def without(self, factors: Iterable[Factor]) -> Iterator[Array]:
        """Yield ``[d + 1, Q]`` Theta of the statistics less each factor alone.

        With H = X~^T X~ + lambda I, rows R of a factor and C with R^T C = its moment, Woodbury's identity is

            Theta + S (I - R S)^-1 (R Theta - C),   S = H^-1 R^T.

        S of many factors comes from one product with the factorisation at hand, which is read once for all of them.
        Many rows (a quarter of the dimension or more): the difference is factored afresh. Which factors come together
        changes no bit.
        """
        for some in _together(factors):
            rows = np.concatenate([factor.root for factor in some])
            if _has_many_rows(some[0]):
                yield self._afresh(some[0])
                continue
            sides = self._solved(rows.T)
            begin = 0
            for factor in some:
                end = begin + len(factor.root)
                yield self._updated(factor, sides[:, begin:end])
                begin = end

    def _solved(self, columns: Array) -> Array:
        """H^-1 of columns, always so many at once: the kernel, and with it the bits, depends on how many there are."""
        count = columns.shape[1]
        padded = np.zeros((len(columns), COLUMNS * max(1, -(-count // COLUMNS))), order="F")
        padded[:, :count] = columns
        solved: Array = cho_solve(self._cholesky, padded, overwrite_b=True)
        return solved

    def _updated(self, factor: Factor, sideways: Array) -> Array:
        """Theta without few rows, of which ``sideways`` is S."""
        root, sideways = factor.root, np.ascontiguousarray(sideways)
        if not len(root):
            return self.solution
        explained = np.linalg.lstsq(root.T, factor.moment, rcond=None)[0]
        capacity = np.eye(len(root)) - root @ sideways
        updated: Array = self.solution + sideways @ np.linalg.solve(capacity, root @ self.solution - explained)
        return updated

    def _afresh(self, factor: Factor) -> Array:
        left = self._statistics.gram - factor.root.T @ factor.root
        refit: Array = cho_solve(_factored(left, self._lambda), self._statistics.moment - factor.moment)
        return refit


def _together(factors: Iterable[Factor]) -> Iterator[list[Factor]]:
    """Consecutive factors of few rows, ``COLUMNS`` at most, or one factor; one of many rows always comes alone."""
    some: list[Factor] = []
    rows = 0
    for factor in factors:
        many = _has_many_rows(factor)
        if some and (many or rows + len(factor.root) > COLUMNS):
            yield some
            some, rows = [], 0
        if many:
            yield [factor]
            continue
        some.append(factor)
        rows += len(factor.root)
    if some:
        yield some


def _has_many_rows(factor: Factor) -> bool:
    """Whether refactoring is as cheap as Woodbury's identity; asked of each factor, whatever comes with it."""
    return 4 * len(factor.root) >= len(factor.moment)


def _factored(gram: Array, regularisation: float) -> tuple[Array, bool]:
    """What ``cho_solve`` takes, of ``gram + regularisation I``."""
    total = gram.copy()
    total[np.diag_indices_from(total)] += regularisation
    factor: tuple[Array, bool] = cho_factor(total.T, overwrite_a=True)  # by columns, as LAPACK wants it: no copy
    return factor
