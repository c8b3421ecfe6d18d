"""Which labels were deleted, by what the deletion did to the last layer."""

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.labels import multiset
from simulator.world.knowledge import PublicKnowledge
from simulator.world.models import Model
from simulator.world.records import Array, Case

_SHARE = 0.5


def class_score(case: Case, model: Model) -> Array:
    """``[Q]`` S_i = b |dW_i|_1 / sum + (1 - b) |db_i| / sum with b = 1/2 (Zhou and Zhu, FUIA), signed.

    The gradient of the cross-entropy by the bias is p - e_y: unlearning raises it for every class but the deleted one.
    The score has the sign of -db_i = b_i - b'_i, so that the deleted class is the largest entry.
    """
    weight, bias = (np.asarray(case.before[name], np.float64) - case.after[name] for name in model.names[-2:])
    rows = np.abs(weight).sum(axis=1)
    parts = (part / max(float(part.sum()), np.finfo(np.float64).tiny) for part in (rows, np.abs(bias)))
    score: Array = np.sign(bias) * sum(share * part for share, part in zip((_SHARE, 1 - _SHARE), parts, strict=True))
    return score


def deleted_labels(case: Case, knowledge: PublicKnowledge, model: Model) -> NDArray[np.float64]:
    """``[k]`` ascending labels of one deletion, without ground truth.

    One record: the class of the largest score. Several: the classes whose public records' mean residuals e_y - p add up
    best to the direction of the bias change.
    """
    if case.labels is not None:
        return np.array(case.labels, np.float64)
    if case.size == 1:
        return np.array([class_score(case, model).argmax()], np.float64)
    y = np.asarray(knowledge.y).astype(np.int64)
    with torch.no_grad():
        scores = model.scores(model.tensors(case.before), torch.tensor(np.asarray(knowledge.x), dtype=model.dtype))
    residual = model.residual(scores, torch.tensor(y)).numpy()
    classes = np.unique(y)
    typical = np.stack([residual[y == label].mean(axis=0) for label in classes])
    bias = model.names[-1]
    change = np.asarray(case.before[bias], np.float64) - case.after[bias]
    scale = case.size * np.linalg.norm(typical, axis=1).mean() / max(float(np.abs(change).sum()), 1e-300)
    total = change / knowledge.facts.step if knowledge.facts.operator == "identity" else change * scale
    found: NDArray[np.float64] = classes[multiset(total, typical, case.size)].astype(np.float64)
    return found
