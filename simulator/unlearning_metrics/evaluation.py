"""What models are worth on some records, many at a time, and how far two models are apart."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from palimpsest.simulator.unlearning_metrics.margins import Margins
from palimpsest.simulator.world.models.model import Model, flat
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.specs import Task

_CHUNK = 2048
"""Records that go through a model at once: what a network computes on the way must not fill the memory."""
_CACHED = 512
"""Records that go through linear models at once: they stay in the processor's cache from one model to the next."""
_SCORES = 2**25
"""Bytes of scores in one evaluation, about."""
_REFERENCES = 16
"""Models near which others are told, at most: of each, what it says of the records is kept."""


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

    What it says of a model does not depend, to the last bit, on the models that are evaluated with it: a run that is
    resumed evaluates fewer at once than an unbroken one, and has to end in the same figures.

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
        self._margins: OrderedDict[int, tuple[Params, Margins]] = OrderedDict()

    @property
    def together(self) -> int:
        """How many models to evaluate at once, at least one: more would not be faster, and take memory."""
        return max(1, _SCORES // (8 * len(self._y) * self._model.spec.outputs))

    def __call__(self, models: Sequence[Params]) -> Evaluated:
        """Evaluate some models."""
        model, y, scores = self._model, self._y, self._scores(models)
        with torch.no_grad():
            losses = np.stack([model.losses(of_one, torch.from_numpy(y)).double().numpy() for of_one in scores])
        predicted = np.stack([of_one.double().numpy() for of_one in scores])
        answers = self._answers(scores)
        return Evaluated(utility(model.spec.task, y, answers), losses, predicted, answers, y)

    def alone(self, models: Sequence[Params]) -> Array:
        """``[models]`` the utility of ``__call__``, without losses; of any number of models, some at a time."""
        parts = [models[first : first + self.together] for first in range(0, len(models), self.together)]
        some = [utility(self._model.spec.task, self._y, self._answers(self._scores(part))) for part in parts]
        return np.concatenate(some) if some else np.zeros(0)

    def answers(self, models: Sequence[Params], near: Sequence[Params]) -> Array:
        """``[models, n]`` predicted classes or targets; those of linear classifiers are told from float64 scores.

        Args:
            models: to evaluate.
            near: for each a model that is likely to be close to it; it changes the time that this takes, nothing else.
        """
        if not self._model.linear or self._model.spec.task != "classification":
            return self._answers(self._scores(models))
        return np.stack([self._around(by).answers(params) for params, by in zip(models, near, strict=True)])

    def utility(self, models: Sequence[Params], near: Sequence[Params]) -> Array:
        """``[models]`` accuracy, or R^2 for regression, of ``answers``; of any number of models, some at a time."""
        parts = [slice(first, first + self.together) for first in range(0, len(models), self.together)]
        some = [utility(self._model.spec.task, self._y, self.answers(models[part], near[part])) for part in parts]
        return np.concatenate(some) if some else np.zeros(0)

    def _scores(self, models: Sequence[Params]) -> list[Tensor]:
        """``[n, outputs]`` of each model."""
        with torch.no_grad():
            return self._linear(models) if self._model.linear else [self._any(params) for params in models]

    def _answers(self, scores: Sequence[Tensor]) -> Array:
        """``[models, n]`` predicted classes or targets."""
        if self._model.spec.task == "classification":
            return np.stack([of_one.numpy().argmax(-1) for of_one in scores])
        return np.stack([of_one[:, 0].double().numpy() for of_one in scores])

    def _around(self, reference: Params) -> Margins:
        """Of a reference; of requests of several rounds, which come mixed, each round has one of its own."""
        kept = self._margins.get(id(reference))
        if kept is None:
            kept = reference, Margins(self._features.numpy(), reference)
            self._margins[id(reference)] = kept  # with the reference itself: another one cannot have its id meanwhile
            while len(self._margins) > _REFERENCES:
                self._margins.popitem(last=False)
        return kept[1]

    def _linear(self, models: Sequence[Params]) -> list[Tensor]:
        """``[n, outputs]`` scores of each of some linear models, a product a model and chunk of records.

        One product with the weights of all would be 1.5 times as fast, but its sums change order with its width.
        """
        tensors = [self._model.tensors(params) for params in models]
        scores: list[list[Tensor]] = [[] for _ in models]
        for chunk in self._features.split(_CACHED):
            for of_model, of_chunk in zip(tensors, scores, strict=True):
                of_chunk.append(torch.nn.functional.linear(of_model["weight"], chunk).T + of_model["bias"])
        return [torch.cat(of_chunk) for of_chunk in scores]

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
