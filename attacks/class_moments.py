"""What records of each class leave in G on average, and how far that tells how many of each there were."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from palimpsest.attacks.linear import Released, precise_model, public_blocks, residuals, side_by_side
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_HELD = 5_000_000
"""Numbers held at once in the covariances of some cases."""
_MOMENTS = 400
"""Length of the vectors by which labels are told apart, at most (or Q, if that is more)."""
_FLOOR = 1e-3
"""Share of its mean that is added to the diagonal of least squares: classes may be hard to tell apart."""


def counting_maps(knowledge: PublicKnowledge, basis: Array, released: Released, size: int) -> Iterator[Array]:
    """Yield of each case a matrix ``[Q, b * Q]`` from vec(B^T G) to how many records of each class there were.

    Least squares, whitened by the spread of records within classes and of the public operator. Rows of classes without
    public records are 0.

    Args:
        knowledge: the public sample.
        basis: ``[p + 1, b]`` B, see ``class_basis``.
        released: G of each case.
        size: how many records each case has.
    """
    classes = np.unique(np.asarray(knowledge.y).astype(np.int64))
    together = max(1, _HELD // (basis.shape[1] * released.point.shape[2]) ** 2)
    for start in range(0, len(released.point), together):
        means, within, operator = moments(knowledge, basis, released.some(slice(start, start + together)))
        for mean, inside, drift in zip(means, within, operator, strict=True):
            whiten = whitener(size * inside + drift, len(knowledge.x))
            typical = whiten @ mean[classes].T
            normal = typical.T @ typical
            normal += (_FLOOR * np.trace(normal) / len(classes) + np.finfo(np.float64).tiny) * np.eye(len(classes))
            counted = np.zeros((len(mean), basis.shape[1] * released.point.shape[2]))
            counted[classes] = np.linalg.solve(normal, typical.T @ whiten)
            yield counted


def class_basis(knowledge: PublicKnowledge) -> Array:
    """``[p + 1, b]`` orthonormal span of the class means of x~ and the intercept; for many classes its main part."""
    outputs = knowledge.facts.model.outputs
    sums: Tensor | float = 0.0
    for phi, y in public_blocks(knowledge, outputs):
        sums = sums + phi.T @ torch.nn.functional.one_hot(y, outputs).to(phi.dtype)
    assert isinstance(sums, Tensor)
    means = (sums / sums[-1].clamp(min=1)).numpy()
    intercept = np.eye(len(means))[:, -1:]
    left, values, _ = np.linalg.svd(np.concatenate([means, intercept], axis=1), full_matrices=False)
    width = min(int((values > 1e-9 * values[0]).sum()), max(1, _MOMENTS // outputs))
    basis: Array = left[:, :width]
    return basis


def moments(knowledge: PublicKnowledge, basis: Array, released: Released) -> tuple[Array, Array, Array]:
    """Means of vec(B^T x~ r^T) by class ``[c, Q, v]``, its covariance within classes and B^T G_hat's ``[c, v, v]``.

    The latter is that of n/m times a sum over public records, which stands for a sum over n private ones:
    n^2 (1/m + 1/n) times the covariance of vec(B^T x~ (r(point) - r(start))^T).
    """
    model, n, m = precise_model(knowledge), knowledge.facts.n, len(knowledge.x)
    count, _, outputs = released.point.shape
    size = basis.shape[1] * outputs
    sums = torch.zeros(count, outputs + 1, size, dtype=torch.float64)
    squares = torch.zeros(2, count, size, size, dtype=torch.float64)
    members = torch.zeros(outputs, dtype=torch.float64)
    sides = [side_by_side(released.point), side_by_side(released.start)]
    for phi, y in public_blocks(knowledge, count * size):
        seen = phi @ torch.tensor(basis)
        here, there = (residuals(model, (phi @ side).view(-1, count, outputs), y) for side in sides)
        observed, moved = (torch.einsum("mb,mcq->cmbq", seen, part).flatten(2) for part in (here, here - there))
        member = torch.nn.functional.one_hot(y, outputs).to(torch.float64)
        members += member.sum(0)
        sums += torch.cat([member.T @ observed, moved.sum(1, keepdim=True)], 1)
        squares += torch.stack([observed.mT @ observed, moved.mT @ moved])
    means = sums[:, :-1] / members.clamp(min=1).view(1, -1, 1)
    within = (squares[0] - means.mT @ (members.view(1, -1, 1) * means)) / m
    drift = sums[:, -1] / m
    spread = squares[1] / m - drift.unsqueeze(2) * drift.unsqueeze(1)
    return means.numpy(), within.numpy(), (n**2 * (1.0 / m + 1.0 / n) * spread).numpy()


def whitener(covariance: Array, m: int) -> Array:
    """``[v, v]`` inverse Cholesky factor of a covariance estimated from m records, shrunk towards its diagonal."""
    size = len(covariance)
    share = size / (size + m)
    diagonal = np.diag(np.diag(covariance))
    floor = 1e-6 * np.trace(covariance) / size + np.finfo(np.float64).tiny
    shrunk = (1.0 - share) * covariance + share * diagonal + floor * np.eye(size)
    inverse: Array = np.linalg.inv(np.linalg.cholesky(shrunk))
    return inverse
