"""Which labels explain a gradient."""

from collections.abc import Sequence

import numpy as np
import torch

from attacks.linear import precise_model, public_blocks, residuals, side_by_side
from simulator.world.knowledge import PublicKnowledge
from simulator.world.models import Model
from simulator.world.records import Array

_HELD = 20_000_000
"""Numbers held at once for the typical gradients of some cases."""


def explain(model: Model, scores: Array, residual: Array) -> Array:
    """``[c]`` the label of each record, given its scores and its residual, both ``[c, Q]``.

    Regression: residual + score. Classification: the class whose residual at these scores is nearest to the observed
    one; for ridge and softmax this is the largest entry of residual + prediction.
    """
    if model.spec.task == "regression":
        target: Array = (scores + residual)[:, 0]
        return target
    outputs = model.spec.outputs
    each = torch.arange(outputs).expand(len(scores), outputs)
    repeated = torch.tensor(scores, dtype=torch.float64).unsqueeze(1).expand(-1, outputs, -1)
    expected = model.residual(repeated, each).numpy()
    nearest: Array = np.linalg.norm(expected - residual[:, None, :], axis=2).argmin(axis=1).astype(np.float64)
    return nearest


def infer_labels(knowledge: PublicKnowledge, gradients: Array, point: Array, sizes: Sequence[int]) -> list[Array]:
    """The labels of deletions of several records, each ascending, from G and Theta, both ``[c, p + 1, Q]``.

    G is compared as a whole with the sums of ``typical_gradients``: its intercept row alone (label counts less summed
    predictions) says the same with more noise.
    """
    count, width, outputs = point.shape
    labels: list[Array] = []
    together = max(1, _HELD // (width * outputs**2))
    for start in range(0, count, together):
        some = slice(start, start + together)
        typical = typical_gradients(knowledge, point[some])
        labels += [
            multiset(total.ravel(), each.reshape(outputs, -1), size)
            for total, each, size in zip(gradients[some], typical, sizes[some], strict=True)
        ]
    return labels


def typical_gradients(knowledge: PublicKnowledge, point: Array) -> Array:
    """``[c, classes, p + 1, Q]`` mean x~ r^T of the public records of each class under each of c linear models.

    A class without public records gets the public mean of x~ and the residual of scores of zero.
    """
    model = precise_model(knowledge)
    count, width, outputs = point.shape
    stacked = side_by_side(point)
    sums = torch.zeros(outputs, width, count * outputs, dtype=torch.float64)
    features = torch.zeros(outputs, width, dtype=torch.float64)
    for phi, y in public_blocks(knowledge, count * outputs):
        of_each = residuals(model, (phi @ stacked).view(-1, count, outputs), y).reshape(len(phi), -1)
        for label in range(outputs):
            members = phi[y == label]
            sums[label] += members.T @ of_each[y == label]
            features[label] += members.sum(0)
    counts = features[:, -1].view(-1, 1, 1, 1)
    means = sums.view(outputs, width, count, outputs) / counts.clamp(min=1)
    blank = model.residual(torch.zeros(outputs, outputs, dtype=torch.float64), torch.arange(outputs))
    absent = torch.einsum("p,aq->apq", features.sum(0) / counts.sum(), blank).unsqueeze(2)
    return torch.where(counts > 0, means, absent).permute(2, 0, 1, 3).numpy()


def multiset(total: Array, typical: Array, size: int) -> Array:
    """``[size]`` ascending labels whose typical vectors add up best to ``total``.

    Greedy, then exchanges of one label for another while they help.

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
    return np.repeat(np.arange(len(typical)), counts).astype(np.float64)
