"""Ridge without some records: as a refit has it, and the same bits in whatever company it is solved."""

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from palimpsest.server.algorithms.ridge import COLUMNS, RidgeSolver
from palimpsest.simulator.world.protocols.federation import Factor, Statistics
from palimpsest.simulator.world.records import Array

WIDTH, OUTPUTS, LAMBDA = 120, 4, 2.0
RNG = np.random.default_rng(0)
X = np.concatenate([RNG.random((300, WIDTH - 1)), np.ones((300, 1))], axis=1)
Y = np.eye(OUTPUTS)[RNG.integers(0, OUTPUTS, 300)]
ALL = Statistics(X.T @ X, X.T @ Y, len(X))


def _factor(rows: list[int]) -> Factor:
    x = X[rows]
    return Factor(np.linalg.qr(x, mode="r") if len(rows) > 1 else x, x.T @ Y[rows], len(rows))


def _refit(rows: list[int]) -> Array:
    x, y = np.delete(X, sorted(set(rows)), axis=0), np.delete(Y, sorted(set(rows)), axis=0)
    theta: Array = np.linalg.solve(x.T @ x + LAMBDA * np.eye(WIDTH), x.T @ y)
    return theta


@pytest.mark.parametrize("rows", [[3], [3, 7], list(range(20)), list(range(40)), list(range(200))])
def test_it_is_a_refit_without_them(rows: list[int]) -> None:
    [theta] = RidgeSolver(ALL, LAMBDA).without([_factor(rows)])
    np.testing.assert_allclose(theta, _refit(rows), atol=1e-11)


def test_a_record_that_is_there_twice_may_go_twice() -> None:
    x, y = np.concatenate([X, X[:1]]), np.concatenate([Y, Y[1:2]])  # the same record under two labels
    twice = Statistics(x.T @ x, x.T @ y, len(x))
    gone = np.stack([X[0], X[0]])
    factor = Factor(np.linalg.qr(gone, mode="r"), gone.T @ np.stack([Y[0], Y[1]]), 2)
    [theta] = RidgeSolver(twice, LAMBDA).without([factor])
    np.testing.assert_allclose(theta, _refit([0]), atol=1e-11)


def test_without_a_record_nothing_changes() -> None:
    nothing = Factor(np.zeros((0, WIDTH)), np.zeros((WIDTH, OUTPUTS)), 0)
    solver = RidgeSolver(ALL, LAMBDA)
    np.testing.assert_array_equal(next(solver.without([nothing])), solver.solution)


def test_company_changes_no_bit() -> None:
    solver = RidgeSolver(ALL, LAMBDA)
    single = [_factor([i]) for i in range(2 * COLUMNS + 5)]
    factors = [*single, _factor([9, 8, 7]), _factor(list(range(40))), _factor([5]), _factor(list(range(90)))]
    _assert_alone_as_together(solver, factors, (0, 1, COLUMNS - 1, COLUMNS, *range(len(single) - 1, len(factors))))


def test_company_changes_no_bit_where_a_few_rows_are_a_quarter_of_the_dimension() -> None:
    x, y = X[:, -20:], Y
    solver = RidgeSolver(Statistics(x.T @ x, x.T @ y, len(x)), LAMBDA)
    parts = [list(range(8)), [20], [30, 31, 32, 33, 34], [40, 41, 42, 43], [50]]
    factors = [Factor(np.linalg.qr(x[rows], mode="r"), x[rows].T @ y[rows], len(rows)) for rows in parts]
    _assert_alone_as_together(solver, factors, range(len(factors)))


def _assert_alone_as_together(solver: RidgeSolver, factors: Sequence[Factor], which: Iterable[int]) -> None:
    together = list(solver.without(factors))
    assert len(together) == len(factors)
    for i in which:
        [alone] = solver.without([factors[i]])
        np.testing.assert_array_equal(alone, together[i])
