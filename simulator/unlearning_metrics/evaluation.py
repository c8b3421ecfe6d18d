"""What models are worth on some records, many at a time, and how far two models are apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from palimpsest.simulator.world.models.model import Model, flat
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.specs import Task

_CHUNK = 2048
"""Records that go through a model at once: what a network computes on the way must not fill the memory."""
_SCORES = 2**25
"""Bytes of scores in one evaluation, about."""


@dataclass(frozen=True)
class Evaluated:
    """Models on some records; the first axis of everything is the models'.

    Attributes:
        utility: ``[models]`` accuracy, or R^2 for regression (NaN where the targets are all the same).
        losses: ``[models, n]`` float64 loss of each record, without the regulariser.
        scores: ``[models, n, outputs]`` float64.
        answers: ``[models, n]`` predicted classes or targets.
        targets: ``[n]`` the true ones, the same for all models.
    """

    utility: Array
    losses: Array
    scores: Array
    answers: Array
    targets: Array

    def some(self, places: Sequence[int]) -> "Evaluated":
        """Some of the models, by their places."""
        chosen = list(places)
        of_models = (self.utility[chosen], self.losses[chosen], self.scores[chosen], self.answers[chosen])
        return Evaluated(*of_models, self.targets)


class UtilityEvaluator:
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

    @property
    def together(self) -> int:
        """How many models to evaluate at once, at least one: more would not be faster, and take memory."""
        return max(1, _SCORES // (8 * len(self._y) * self._model.spec.outputs))

    def __call__(self, models: Sequence[Params]) -> Evaluated:
        """Evaluate some models."""
        model, y = self._model, self._y
        with torch.no_grad():
            scores = self._linear(models) if model.linear else torch.stack([self._any(params) for params in models])
            losses = model.losses(scores, torch.from_numpy(y)).double().numpy()
        predicted = scores.double().numpy()
        answers = predicted.argmax(-1) if model.spec.task == "classification" else predicted[..., 0]
        return Evaluated(utility(model.spec.task, y, answers), losses, predicted, answers, y)

    def _linear(self, models: Sequence[Params]) -> Tensor:
        """``[models, n, outputs]`` scores of linear models, by one product with all of their weights."""
        weight = torch.from_numpy(np.concatenate([params["weight"] for params in models])).to(self._model.dtype)
        bias = torch.from_numpy(np.concatenate([params["bias"] for params in models])).to(self._model.dtype)
        side_by_side = torch.nn.functional.linear(self._features, weight, bias)
        return side_by_side.view(len(self._y), len(models), -1).transpose(0, 1)

    def _any(self, params: Params) -> Tensor:
        """``[n, outputs]`` scores of one model of any kind."""
        tensors = self._model.tensors(params)
        return torch.cat([self._model.head(tensors, some) for some in self._features.split(_CHUNK)])


def utility(task: Task, y: Array, answers: Array) -> Array:
    """``[...]`` accuracy, or R^2 for regression (NaN where the targets are all the same, or there are none).

    Args:
        task: of the models.
        y: ``[n]`` classes or targets.
        answers: ``[..., n]`` what models say of them.
    """
    if task == "classification" and len(y):
        accuracy: Array = (answers == y).mean(axis=-1)
        return accuracy
    spread = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
    if spread == 0.0:
        return np.full(answers.shape[:-1], np.nan)
    explained: Array = 1.0 - ((y - answers) ** 2).sum(axis=-1) / spread
    return explained


def symmetric_kl(first: Array, second: Array) -> float:
    """Mean over records of KL(p || q) + KL(q || p), p and q the softmax of two models' ``[n, outputs]`` scores."""
    log_p, log_q = log_softmax(first, axis=1), log_softmax(second, axis=1)
    return float(((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q)).sum(1).mean())


def distance(first: Params, second: Params) -> float:
    """Euclidean distance of two models' parameters."""
    return float(np.linalg.norm(flat(first) - flat(second)))
