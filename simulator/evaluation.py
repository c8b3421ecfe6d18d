"""What the models are worth, and what they still know of what they should have forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax

from simulator.membership import ranks, report
from simulator.world.models import Model, flat
from simulator.world.records import Array, Params


@dataclass(frozen=True)
class Judged:
    """One model on some records.

    Attributes:
        utility: accuracy, or R^2 for regression (NaN where the targets are all the same).
        losses: ``[n]`` float64 loss of each record, without the regulariser.
        scores: ``[n, outputs]`` float64.
    """

    utility: float
    losses: Array
    scores: Array


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
            scores = model.head(model.tensors(params), self._features)
            losses = model.losses(scores, torch.from_numpy(y)).double().numpy()
        predicted = scores.double().numpy()
        if model.spec.task == "classification":
            return Judged(float((predicted.argmax(1) == y).mean()), losses, predicted)
        spread = float(((y - y.mean()) ** 2).sum())
        error = float(((y - predicted[:, 0]) ** 2).sum())
        return Judged(1.0 - error / spread if spread > 0.0 else float("nan"), losses, predicted)


def worth(
    model: Model,
    trained: Sequence[Params],
    unlearned: Sequence[Params],
    retrained: Sequence[Params],
    forgotten: Sequence[tuple[Array, Array]],
    test: tuple[Array, Array],
) -> dict[str, Any]:
    """Utility and forgetting of one arm, always beside retraining.

    Args:
        model: the architecture.
        trained: the model before each request.
        unlearned: the model that each request ended in.
        retrained: a retraining without each request's records that nobody saw.
        forgotten: each request's records.
        test: held-out records; none, or R^2 undefined since their targets are all the same: what needs them is absent.

    Returns:
        The entries ``utility`` and ``forgetting`` of ``results.json``. Utility is the median over requests.
    """
    classes = model.spec.task == "classification"
    knows = {"trained": trained, "unlearned": unlearned, "retrained": retrained}
    after = [Judge(model, *own)(params) for own, params in zip(forgotten, unlearned, strict=True)]
    forgetting: dict[str, Any] = {
        "distance_to_retrained": float(np.median([distance(a, b) for a, b in zip(unlearned, retrained, strict=True)]))
    }
    reference = [Judge(model, *own)(params) for own, params in zip(forgotten, retrained, strict=True)]
    if classes:
        forgetting["forget_accuracy"] = float(np.mean([judged.utility for judged in after]))
        forgetting["forget_accuracy_retrained"] = float(np.mean([judged.utility for judged in reference]))
    if len(test[0]) == 0 or not (classes or np.ptp(test[1]) > 0.0):
        return {"forgetting": forgetting}
    judge = Judge(model, *test)
    on_test = {name: [judge(params) for params in models] for name, models in knows.items()}
    utility = {name: float(np.median([judged.utility for judged in all_])) for name, all_ in on_test.items()}
    before = [Judge(model, *own)(params) for own, params in zip(forgotten, trained, strict=True)]
    on_forgotten = {"trained": before, "unlearned": after, "retrained": reference}
    found = {
        name: ranks([judged.losses for judged in on_forgotten[name]], [judged.losses for judged in on_test[name]])
        for name in knows
    }
    forgetting |= report(found["trained"], found["unlearned"], found["retrained"], len(test[0]))
    if model.spec.task == "classification" and model.spec.kind not in ("ridge", "svm"):  # theirs are no probabilities
        pairs = zip(on_test["unlearned"], on_test["retrained"], strict=True)
        forgetting["kl_to_retrained"] = float(np.median([symmetric_kl(a.scores, b.scores) for a, b in pairs]))
    return {"utility": {"metric": "accuracy" if classes else "r2", **utility}, "forgetting": forgetting}


def symmetric_kl(one: Array, other: Array) -> float:
    """Mean over records of KL(p || q) + KL(q || p), p and q the softmax of two models' ``[n, outputs]`` scores."""
    log_p, log_q = log_softmax(one, axis=1), log_softmax(other, axis=1)
    return float(((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q)).sum(1).mean())


def distance(one: Params, other: Params) -> float:
    """Euclidean distance of two models' parameters."""
    return float(np.linalg.norm(flat(one) - flat(other)))
