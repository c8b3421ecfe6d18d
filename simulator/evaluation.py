"""What one model is worth on some records, and how far two models are apart."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax

from simulator.world.models import Model, flat
from simulator.world.records import Array, Params
from simulator.world.specs import Task

_CHUNK = 2048
"""Records that go through a model at once: what a network computes on the way must not fill the memory."""


@dataclass(frozen=True)
class Judged:
    """One model on some records.

    Attributes:
        utility: accuracy, or R^2 for regression (NaN where the targets are all the same).
        losses: ``[n]`` float64 loss of each record, without the regulariser.
        scores: ``[n, outputs]`` float64.
        answers: ``[n]`` predicted classes or targets.
    """

    utility: float
    losses: Array
    scores: Array
    answers: Array


class Judge:
    """Evaluates models on the same records, which go through a fixed feature map only once.

    Args:
        model: the architecture.
        x: ``[n, d]`` records, at least one.
        y: ``[n]`` labels or targets.
    """

    def __init__(self, model: Model, x: Array, y: Array) -> None:
        self._model = model
        self._y = np.asarray(y)
        with torch.no_grad():
            self._features = model.embed(torch.tensor(np.asarray(x), dtype=model.dtype))

    def __call__(self, params: Params) -> Judged:
        """Evaluate one model."""
        model, y = self._model, self._y
        with torch.no_grad():
            tensors = model.tensors(params)
            scores = torch.cat([model.head(tensors, some) for some in self._features.split(_CHUNK)])
            losses = model.losses(scores, torch.from_numpy(y)).double().numpy()
        predicted = scores.double().numpy()
        answers = predicted.argmax(1) if model.spec.task == "classification" else predicted[:, 0]
        return Judged(utility(model.spec.task, y, answers), losses, predicted, answers)


def utility(task: Task, y: Array, answers: Array) -> float:
    """Accuracy, or R^2 for regression (NaN where the targets are all the same, or there are none)."""
    if len(y) == 0:
        return float("nan")
    if task == "classification":
        return float((answers == y).mean())
    spread = float(((y - y.mean()) ** 2).sum())
    return 1.0 - float(((y - answers) ** 2).sum()) / spread if spread > 0.0 else float("nan")


def symmetric_kl(one: Array, other: Array) -> float:
    """Mean over records of KL(p || q) + KL(q || p), p and q the softmax of two models' ``[n, outputs]`` scores."""
    log_p, log_q = log_softmax(one, axis=1), log_softmax(other, axis=1)
    return float(((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q)).sum(1).mean())


def distance(one: Params, other: Params) -> float:
    """Euclidean distance of two models' parameters."""
    return float(np.linalg.norm(flat(one) - flat(other)))
