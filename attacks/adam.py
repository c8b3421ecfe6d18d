"""Adam for a few small arrays, written out.

``torch.optim`` takes the same steps, to the last bit, but imports PyTorch's compiler at its first use: a second of
every attack's process.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_TINY = 1e-8
"""Beside the root of the second moment, as in ``torch.optim``."""
_FIRST, _LAST = 25.0, 1e4
"""The highest rate over the first one, and the first over the last."""
_RISING = 0.3
_KEPT = 0.95, 0.85
"""How much of the first moment is kept at the lowest rates, and at the highest."""


class Adam:
    """Adam with decoupled weight decay, in place (Kingma & Ba, 2015; Loshchilov & Hutter, 2019).

    Args:
        weights: leaves that require a gradient.
        betas: how much of both moments each step keeps.
        decay: of the weights, times the rate.
    """

    def __init__(
        self, weights: Sequence[Tensor], betas: tuple[float, float] = (0.9, 0.999), decay: float = 0.0
    ) -> None:
        self._weights, self._betas, self._decay = weights, betas, decay
        self._moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in weights]
        self._steps = 0

    def step(self, loss: Tensor, rate: float, beta: float | None = None) -> None:
        """Go one step down a loss.

        Args:
            loss: a number that depends on the weights.
            rate: of this step.
            beta: how much of the first moment this step keeps, where it is not always the same.
        """
        gradients = torch.autograd.grad(loss, self._weights)
        first, second = self._betas if beta is None else (beta, self._betas[1])
        self._steps += 1
        size, root = rate / (1 - first**self._steps), (1 - second**self._steps) ** 0.5
        with torch.no_grad():
            for weight, gradient, (mean, square) in zip(self._weights, gradients, self._moments, strict=True):
                if self._decay:
                    weight.mul_(1 - rate * self._decay)
                mean.lerp_(gradient, 1 - first)
                square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
                weight.addcdiv_(mean, (square.sqrt() / root).add_(_TINY), value=-size)


def one_cycle(rate: float, steps: int) -> Iterator[tuple[float, float]]:
    """Yield of each step its rate, which rises and falls by cosines, and beta, which falls and rises (Smith, 2018).

    Args:
        rate: the highest.
        steps: at least two.
    """
    first, (most, least) = rate / _FIRST, _KEPT
    top, end = _RISING * steps - 1, steps - 1
    for step in range(steps):
        if step <= top:
            yield _between(first, rate, step / top), _between(most, least, step / top)
        else:
            share = (step - top) / (end - top)
            yield _between(rate, first / _LAST, share), _between(least, most, share)


def _between(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2.0 * (math.cos(math.pi * share) + 1)
