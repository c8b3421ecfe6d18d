"""Which labels explain a gradient."""

from collections.abc import Sequence

import numpy as np
import torch

from palimpsest.attacks.label_counts import LabelCounts
from palimpsest.attacks.linear import Released
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_TINY = 1e-300


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
    """The labels of deletions of several records, each ascending, as ``LabelCounts`` finds them.

    A class without public records is never inferred. Equal cases get equal labels, and their order does not matter.

    Args:
        knowledge: the public sample.
        released: G of each case.
        sizes: how many records each case has.
    """
    counts, labels = LabelCounts(knowledge), [np.empty(0)] * len(sizes)
    for size in sorted(set(sizes)):
        cases = [i for i in range(len(sizes)) if sizes[i] == size]
        for i, inferred in zip(cases, counts.infer(released.some(cases), size), strict=True):
            labels[i] = inferred
    return labels


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
    labels: Array = np.repeat(np.arange(len(typical)), counts)
    return labels
