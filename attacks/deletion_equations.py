"""The equation G = sum of x~ r(x~, y)^T of one deletion, whitened, in the public sample's principal components."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from palimpsest.attacks.divergence import Reads
from palimpsest.attacks.linear import (
    Operator,
    Released,
    precise_model,
    public_blocks,
    released_gradients,
    residuals,
    side_by_side,
)
from palimpsest.attacks.prior import Gaussian, PrincipalComponents
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case

LEAST = 1e-2
"""Smallest standard deviation that a residual is believed to have."""
_BEYOND = 200
"""Directions beyond the components that tell residuals apart, at most: pixels of hardly any variance do not."""


def without(
    case: Case, knowledge: PublicKnowledge, operator: Operator, reads: Reads = "auto"
) -> tuple[PublicKnowledge, Released]:
    """G of a case by the residuals at the model before, and the knowledge of the n - k records that it leaves.

    The records that stay keep both models at their optimum, so that the sum of x~ r(Theta)^T over the deleted ones is
    their change of gradient + lambda (Theta - Theta'). This is exact for every loss, as is the sum of x~ r(Theta')^T
    with the change of all n; but there the deleted records' own change, larger than any other, is part of what the
    public sample has to stand for.
    """
    if operator == "identity" or (reads != "pair" and case.divergence is not None):
        return knowledge, released_gradients([case], knowledge, operator, reads)
    facts = knowledge.facts.model_copy(update={"n": max(1, knowledge.facts.n - case.size)})
    # Without the challenge, which no attack on several records may read.
    rest = type(knowledge)(facts, knowledge.x, knowledge.y, knowledge.box_low, knowledge.box_high)
    released = released_gradients([case], rest, operator, "pair")
    return rest, Released(released.gradients, released.point, released.start, released.scaled)


class DeletionEquations:
    """One case's equations in coordinates [z; 1]; see ``Unmix`` for the symbols.

    Attributes:
        width: number of coordinates of a record in the equations (the target of a regression not counted).
    """

    def __init__(self, knowledge: PublicKnowledge, released: Released, space: PrincipalComponents, size: int) -> None:
        """Whiten the equations of the only case in ``released``, of ``size`` records."""
        point = released.point[0]
        lost = lost_residuals(knowledge, space, released.point)[:, 0]
        covariance = noise(knowledge, released) + size * (lost.T @ lost / len(lost) + LEAST**2 * np.eye(lost.shape[1]))
        self._set_up(knowledge, space, released.gradients[0], covariance)
        self._weight = torch.tensor(space.basis.T @ point[:-1])
        self._bias = torch.tensor(space.mean @ point[:-1] + point[-1])

    def _set_up(
        self, knowledge: PublicKnowledge, space: PrincipalComponents, gradient: Array, covariance: Array
    ) -> None:
        """Keep ``gradient [p + 1, v]``, seen through the components, its columns whitened by ``covariance [v, v]``."""
        off = gradient[:-1] - np.outer(space.mean, gradient[-1])
        top = space.basis.T @ off
        values, vectors = np.linalg.eigh(covariance)
        self.width = len(top)
        self._right = torch.tensor(vectors / np.sqrt(values))
        self._left = torch.tensor(1.0 / np.sqrt(np.append(space.spread, 1.0)))[:, None]
        self._seen = self._left * torch.tensor(np.vstack([top, gradient[-1:]])) @ self._right
        self._hidden: Array = (off - space.basis @ top) @ self._right.numpy()
        beyond = space.lost[:, :_BEYOND]
        seen = torch.tensor(beyond.T @ self._hidden / (beyond**2).sum(axis=0)[:, None])
        self._beyond, self._spread = beyond.shape[1], seen.T @ seen
        self._share = torch.tensor(space.within)
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
        features: Array = self._space.features(z) + np.linalg.solve(inner, residual @ self._hidden.T)
        return features

    def fit(self, z: Tensor, labels: Tensor, whitened: Tensor) -> Tensor:
        """Minus the log posterior density of each of some guesses, ``[...]``, up to a constant.

        Args:
            z: ``[..., k, q]`` coordinates of the records.
            labels: ``[..., k]`` int64 classes; ignored for regression.
            whitened: ``[..., k, q]`` the same as ``z``, in standard deviations of its prior.
        """
        return self._fit(z, self._residual(z, labels) @ self._right, whitened)

    def loss(self, z: Tensor, labels: Tensor, whitened: Tensor) -> Tensor:
        """``fit`` and what the residuals R are worth with the records integrated out, ``[...]``.

        The density alone favours large residuals: they explain noise by records that are a little off. Given R all is
        linear in the records. In the components their volume counts, by the share of the variance that is within
        classes; beyond, where their prior is S, all that is left of G: Gaussian of covariance S (x) (U + R^T R).
        """
        residual = self._residual(z, labels) @ self._right
        gram = residual @ residual.mT
        added = torch.linalg.eigvalsh(gram).clamp(min=0.0)
        volume = torch.log1p(added[..., None] * self._share).sum((-2, -1)) + self._beyond * torch.log1p(added).sum(-1)
        inner = gram + torch.eye(gram.shape[-1], dtype=gram.dtype)
        explained = torch.linalg.solve(inner, residual @ self._spread @ residual.mT).diagonal(dim1=-2, dim2=-1).sum(-1)
        value: Tensor = self._fit(z, residual, whitened) + 0.5 * (volume - explained)
        return value

    def _fit(self, z: Tensor, residual: Tensor, whitened: Tensor) -> Tensor:
        place = z[..., : self.width]
        lifted = torch.cat([place, torch.ones(*place.shape[:-1], 1, dtype=z.dtype)], -1)
        misfit = self._left * (lifted.mT @ residual) - self._seen
        value: Tensor = 0.5 * (misfit**2).sum((-2, -1)) + 0.5 * (whitened**2).sum((-2, -1))
        return value

    def _residual(self, z: Tensor, labels: Tensor) -> Tensor:
        """``[..., k, v]`` what each record has in each column of the equations."""
        y = self._target[0] + self._target[1] * z[..., -1] if self._regression else labels
        return self._model.residual(z[..., : self.width] @ self._weight + self._bias, y)

    def refine(self, z: Array, labels: Array, iterations: int) -> Array:
        """``solve`` from ``z [k, q]``, under the public records of each one's class that resemble it."""
        priors = [self._space.near(point, int(label)) for point, label in zip(z, labels, strict=True)]
        whitened = [np.linalg.solve(prior.root, point - prior.mean) for prior, point in zip(priors, z, strict=True)]
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
        solution: Array = placed().detach().numpy()
        return solution


def noise(knowledge: PublicKnowledge, released: Released) -> Array:
    """``[Q, Q]`` U: covariance of what the public sample, in place of the private one, adds to G."""
    model, n, m = precise_model(knowledge), knowledge.facts.n, len(knowledge.x)
    sides = [side_by_side(released.point), side_by_side(released.start)]
    outputs = released.point.shape[2]
    moment = torch.zeros(outputs, outputs, dtype=torch.float64)
    for phi, y in public_blocks(knowledge, outputs):
        here, there = (residuals(model, (phi @ side).unsqueeze(1), y).squeeze(1) for side in sides)
        moment += (here - there).T @ (here - there)
    covariance: Array = n**2 * (1.0 / m + 1.0 / n) * moment.numpy() / m
    return covariance


def lost_residuals(knowledge: PublicKnowledge, space: PrincipalComponents, points: Array) -> Array:
    """``[m, c, Q]`` what the public records' residuals at ``points [c, p + 1, Q]`` owe to directions that are left out.

    Where softmax is sure of a class, next to nothing, however far the scores are off.
    """
    model, side = precise_model(knowledge), side_by_side(points)
    count, _, outputs = points.shape
    basis, mean, owed = torch.tensor(space.basis), torch.tensor(space.mean), []
    for phi, y in public_blocks(knowledge, side.shape[1]):
        shown = mean + (phi[:, :-1] - mean) @ basis @ basis.T
        scores = [(some @ side[:-1] + side[-1]).view(-1, count, outputs) for some in (phi[:, :-1], shown)]
        owed.append(residuals(model, scores[0], y) - residuals(model, scores[1], y))
    lost: Array = torch.cat(owed).numpy()
    return lost
