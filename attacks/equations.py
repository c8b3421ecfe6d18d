"""The equation G = sum of x~ r(x~, y)^T of one deletion, whitened, in the public sample's principal components."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attacks.linear import Released, precise_model, public_blocks, residuals, side_by_side
from attacks.prior import Gaussian, Space
from simulator.world.knowledge import PublicKnowledge
from simulator.world.records import Array

LEAST = 1e-2
"""Smallest standard deviation that a residual is believed to have."""


class Equations:
    """One case's equations in coordinates [z; 1]; see ``Unmix`` for the symbols.

    Attributes:
        width: number of coordinates of a record in the equations (the target of a regression not counted).
    """

    def __init__(self, knowledge: PublicKnowledge, released: Released, space: Space, size: int) -> None:
        """Whiten the equations of the only case in ``released``, of ``size`` records."""
        point = released.point[0]
        covariance = _noise(knowledge, released) + size * unseen(space, point)
        self._set_up(knowledge, space, released.gradients[0], covariance)
        self._weight = torch.tensor(space.basis.T @ point[:-1])
        self._bias = torch.tensor(space.mean @ point[:-1] + point[-1])

    def _set_up(self, knowledge: PublicKnowledge, space: Space, gradient: Array, covariance: Array) -> None:
        """Keep ``gradient [p + 1, v]``, seen through the components, its columns whitened by ``covariance [v, v]``."""
        off = gradient[:-1] - np.outer(space.mean, gradient[-1])
        top = space.basis.T @ off
        values, vectors = np.linalg.eigh(covariance)
        self.width = len(top)
        self._right = torch.tensor(vectors / np.sqrt(values))
        self._left = torch.tensor(1.0 / np.sqrt(np.append(space.spread, 1.0)))[:, None]
        self._seen = self._left * torch.tensor(np.vstack([top, gradient[-1:]])) @ self._right
        self._hidden: Array = (off - space.basis @ top) @ self._right.numpy()
        self._model = precise_model(knowledge)
        self._regression = knowledge.facts.model.task == "regression"
        self._target = space.target
        self._space = space

    def features(self, z: Array, labels: Array) -> Array:
        """``[k, p]`` the records at ``z``, with what the components leave out of them.

        Given the residuals, the equations are linear in that. Its prior has the covariance S of the operator's noise,
        up to the factor U, so that the posterior mean is the same ridge regression for every direction.
        """
        with torch.no_grad():
            residual = (self._residual(torch.tensor(z), torch.tensor(labels.astype(np.int64))) @ self._right).numpy()
        inner = residual @ residual.T + np.eye(len(residual))
        found: Array = self._space.features(z) + np.linalg.solve(inner, residual @ self._hidden.T)
        return found

    def loss(self, z: Tensor, labels: Tensor, whitened: Tensor) -> Tensor:
        """Minus the log posterior of each of some guesses, ``[...]``.

        Args:
            z: ``[..., k, q]`` coordinates of the records.
            labels: ``[..., k]`` int64 classes; ignored for regression.
            whitened: ``[..., k, q]`` the same as ``z``, in standard deviations of its prior.
        """
        place = z[..., : self.width]
        residual = self._residual(z, labels)
        lifted = torch.cat([place, torch.ones(*place.shape[:-1], 1, dtype=z.dtype)], -1)
        misfit = self._left * (lifted.mT @ (residual @ self._right)) - self._seen
        value: Tensor = 0.5 * (misfit**2).sum((-2, -1)) + 0.5 * (whitened**2).sum((-2, -1))
        return value

    def _residual(self, z: Tensor, labels: Tensor) -> Tensor:
        """``[..., k, v]`` what each record has in each column of the equations."""
        y = self._target[0] + self._target[1] * z[..., -1] if self._regression else labels
        return self._model.residual(z[..., : self.width] @ self._weight + self._bias, y)

    def refine(self, z: Array, labels: Array, iterations: int) -> Array:
        """``solve`` from ``z [k, q]``, under the public records of each one's class that resemble it."""
        priors = [self._space.near(one, int(label)) for one, label in zip(z, labels, strict=True)]
        whitened = [np.linalg.solve(prior.root, one - prior.mean) for prior, one in zip(priors, z, strict=True)]
        return self.solve(priors, labels, np.stack(whitened), iterations)

    def solve(self, priors: Sequence[Gaussian], labels: Array, start: Array, iterations: int) -> Array:
        """``[k, q]`` the coordinates of most posterior density under one prior a record, from whitened ``start``."""
        mean = torch.tensor(np.stack([prior.mean for prior in priors]))
        root = torch.tensor(np.stack([prior.root for prior in priors]))
        classes = torch.tensor(labels.astype(np.int64))
        whitened = torch.tensor(start).requires_grad_()
        optimiser = torch.optim.LBFGS(
            [whitened],
            max_iter=iterations,
            history_size=15,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-3,
            tolerance_change=1e-6,
        )

        def placed() -> Tensor:
            return mean + torch.einsum("kij,kj->ki", root, whitened)

        def loss() -> Tensor:
            optimiser.zero_grad()
            value = self.loss(placed(), classes, whitened)
            value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        found: Array = placed().detach().numpy()
        return found


def _noise(knowledge: PublicKnowledge, released: Released) -> Array:
    """``[Q, Q]`` U: covariance of what the public sample, in place of the private one, adds to G."""
    model, n, m = precise_model(knowledge), knowledge.facts.n, len(knowledge.x)
    sides = [side_by_side(released.point), side_by_side(released.start)]
    outputs = released.point.shape[2]
    moment = torch.zeros(outputs, outputs, dtype=torch.float64)
    for phi, y in public_blocks(knowledge, outputs):
        here, there = (residuals(model, (phi @ side).unsqueeze(1), y).squeeze(1) for side in sides)
        moment += (here - there).T @ (here - there)
    noise: Array = n**2 * (1.0 / m + 1.0 / n) * moment.numpy() / m
    return noise


def unseen(space: Space, point: Array) -> Array:
    """``[Q, Q]`` covariance of a residual's error by what the principal components leave out, with a floor."""
    hidden = space.lost.T @ point[:-1]
    covariance: Array = hidden.T @ hidden + LEAST**2 * np.eye(point.shape[1])
    return covariance
