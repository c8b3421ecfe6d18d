"""Conjugate gradients as a coroutine, so that many systems ask the clients together."""

from collections.abc import Generator

import numpy as np

from palimpsest.simulator.world.records import Array

Solve = Generator[Array, Array, Array]


def solve(right: Array, tolerance: float, max_products: int) -> Solve:
    """Solve H x = ``right`` for a positive definite H (Hestenes and Stiefel 1952).

    Yields vectors v; is sent H v; returns x, whose residual has at most ``tolerance`` times the length of ``right``
    unless ``max_products`` were not enough.
    """
    x, residual = np.zeros_like(right), right.copy()
    direction, square = residual.copy(), float(residual @ residual)
    target = (tolerance**2) * square
    for _ in range(max_products):
        if square <= target:
            break
        image = yield direction
        step = square / float(direction @ image)
        x, residual = x + step * direction, residual - step * image
        before, square = square, float(residual @ residual)
        direction = residual + (square / before) * direction
    return x
