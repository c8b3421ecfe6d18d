"""A linear decoder in closed form: ridge regression, as strong as leaving out one record after the other says."""

from dataclasses import dataclass

import numpy as np

from palimpsest.simulator.world.records import Array

_STRENGTHS = np.logspace(-6, 2, 17)
"""Of the penalty, in units of the mean squared singular value of the inputs."""
_LEVERAGE = 1e-6
"""Least share of an output that its own record does not decide."""


@dataclass(frozen=True)
class Decoder:
    """Outputs ``[d]`` of inputs ``[q]``, affinely.

    Attributes:
        centre: ``[q]`` mean input.
        mean: ``[d]`` output there.
        weights: ``[q, d]``.
        errors: ``[n]`` mean squared error of each record that was learned from, had it been left out.
    """

    centre: Array
    mean: Array
    weights: Array
    errors: Array

    def __call__(self, inputs: Array) -> Array:
        """``[c, q] -> [c, d]``."""
        outputs: Array = self.mean + (inputs - self.centre) @ self.weights
        return outputs


class Inputs:
    """Inputs ``[n, q]`` of records, from which several decoders may be learned."""

    def __init__(self, inputs: Array) -> None:
        """Costs their singular value decomposition."""
        self._centre = inputs.mean(axis=0)
        self._left, self._values, self._right = np.linalg.svd(inputs - self._centre, full_matrices=False)

    def learned(self, targets: Array) -> Decoder:
        """The decoder of ``targets [n, d]`` whose records, left out one by one, are missed by least."""
        mean = targets.mean(axis=0)
        off = targets - mean
        along, squares = self._left.T @ off, self._values**2
        scale = max(float(squares.mean()), np.finfo(np.float64).tiny)
        best: tuple[Array, Array] | None = None
        for strength in _STRENGTHS * scale:
            kept = squares / (squares + strength)
            missed = off - self._left @ (kept[:, None] * along)
            free = 1.0 - 1.0 / len(off) - (self._left**2) @ kept
            errors = ((missed / np.maximum(free, _LEVERAGE)[:, None]) ** 2).mean(axis=1)
            if best is None or errors.mean() < best[0].mean():
                best = errors, self._right.T @ ((self._values / (squares + strength))[:, None] * along)
        assert best is not None
        return Decoder(self._centre, mean, best[1], best[0])
