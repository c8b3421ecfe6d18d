"""Which labels explain a gradient."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from palimpsest.attacks.linear import Released, precise_model, public_blocks, residuals, side_by_side
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_HELD = 5_000_000
"""Numbers held at once in the covariances of some cases."""
_TINY = 1e-300
_MOMENTS = 400
"""Length of the vectors by which labels are told apart, at most (or Q, if that is more)."""


def explain(model: Model, scores: Array, residual: Array, scaled: Array | None = None) -> Array:
    """``[c]`` the label of each record, given its scores and its residual, both ``[c, Q]``.

    Regression: residual + score. Classification: the class whose residual at these scores is nearest to the observed
    one; for ridge and softmax this is the largest entry of residual + prediction. Where the length of the observed
    residuals tells nothing, the class whose residual points the same way.

    Args:
        model: whose residuals they are.
        scores, residual: of each record.
        scaled: ``[c]`` whether the length of a residual counts; by default of all.
    """
    if model.spec.task == "regression":
        target: Array = (scores + residual)[:, 0]
        return target
    outputs = model.spec.outputs
    each = torch.arange(outputs).expand(len(scores), outputs)
    repeated = torch.tensor(scores, dtype=torch.float64).unsqueeze(1).expand(-1, outputs, -1)
    expected = model.residual(repeated, each).numpy()
    nearest = np.linalg.norm(expected - residual[:, None, :], axis=2).argmin(axis=1)
    along = np.einsum("ckq,cq->ck", expected, residual) / np.maximum(np.linalg.norm(expected, axis=2), _TINY)
    chosen = nearest if scaled is None else np.where(scaled, nearest, along.argmax(axis=1))
    labels: Array = chosen.astype(np.float64)
    return labels


def infer_labels(knowledge: PublicKnowledge, released: Released, sizes: Sequence[int]) -> list[Array]:
    """The labels of deletions of several records, each ascending: which labels explain G = sum of x~ r^T best?

    G is seen through B^T G, where B spans the public class means of x~ and the intercept: a sum of one vector
    vec(B^T x~ r^T) a record, whose mean for each class and whose spread the public sample tells. The labels whose means
    add up to B^T G, within the spread of the records and of the public operator, are found by ``multiset``.

    A class without public records is never inferred.

    Args:
        knowledge: the public sample.
        released: G of each case.
        sizes: how many records each case has.
    """
    basis = _class_basis(knowledge)
    classes = np.unique(np.asarray(knowledge.y).astype(np.int64))
    together = max(1, _HELD // (basis.shape[1] * released.point.shape[2]) ** 2)
    labels: list[Array] = []
    for start in range(0, len(sizes), together):
        chunk = released.some(slice(start, start + together))
        means, within, operator = _moments(knowledge, basis, chunk)
        seen = np.einsum("pb,cpq->cbq", basis, chunk.gradients).reshape(len(means), -1)
        for i, size in enumerate(sizes[start : start + together]):
            whiten = _whitener(size * within[i] + operator[i], len(knowledge.x))
            found = multiset(whiten @ seen[i], means[i, classes] @ whiten.T, size)
            labels.append(classes[found].astype(np.float64))
    return labels


def _class_basis(knowledge: PublicKnowledge) -> Array:
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


def _moments(knowledge: PublicKnowledge, basis: Array, released: Released) -> tuple[Array, Array, Array]:
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
        own, moved = (torch.einsum("mb,mcq->cmbq", seen, part).flatten(2) for part in (here, here - there))
        member = torch.nn.functional.one_hot(y, outputs).to(torch.float64)
        members += member.sum(0)
        sums += torch.cat([member.T @ own, moved.sum(1, keepdim=True)], 1)
        squares += torch.stack([own.mT @ own, moved.mT @ moved])
    means = sums[:, :-1] / members.clamp(min=1).view(1, -1, 1)
    within = (squares[0] - means.mT @ (members.view(1, -1, 1) * means)) / m
    drift = sums[:, -1] / m
    spread = squares[1] / m - drift.unsqueeze(2) * drift.unsqueeze(1)
    return means.numpy(), within.numpy(), (n**2 * (1.0 / m + 1.0 / n) * spread).numpy()


def _whitener(covariance: Array, m: int) -> Array:
    """``[v, v]`` inverse Cholesky factor of a covariance estimated from m records, shrunk towards its diagonal."""
    size = len(covariance)
    share = size / (size + m)
    diagonal = np.diag(np.diag(covariance))
    floor = 1e-6 * np.trace(covariance) / size + np.finfo(np.float64).tiny
    shrunk = (1.0 - share) * covariance + share * diagonal + floor * np.eye(size)
    inverse: Array = np.linalg.inv(np.linalg.cholesky(shrunk))
    return inverse


def multiset(total: Array, typical: Array, size: int) -> Array:
    """``[size]`` ascending classes whose typical vectors add up best to ``total``.

    Greedy, then exchanges of one for another while they help.

    Args:
        total: ``[v]`` the sum over the deleted records.
        typical: ``[classes, v]`` what a record of each class contributes on average.
        size: how many records.
    """
    counts = np.zeros(len(typical), dtype=np.int64)
    rest = total.astype(np.float64).copy()
    for _ in range(size):
        best = int(np.linalg.norm(rest - typical, axis=1).argmin())
        counts[best] += 1
        rest -= typical[best]
    exchange = typical[:, None, :] - typical[None, :, :]
    while True:
        after = np.linalg.norm(rest + exchange, axis=2)
        after[counts == 0] = np.inf
        out, into = np.unravel_index(int(after.argmin()), after.shape)
        if after[out, into] >= np.linalg.norm(rest) * (1 - 1e-12):
            break
        counts[out] -= 1
        counts[into] += 1
        rest += exchange[out, into]
    found: Array = np.repeat(np.arange(len(typical)), counts)
    return found
