"""What the models are worth, and what they still know of what they should have forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from simulator.world.models import Model, flat
from simulator.world.records import Array, Params


@dataclass(frozen=True)
class Judged:
    """One model on some records.

    Attributes:
        utility: accuracy, or R^2 for regression (NaN for fewer than two targets or constant ones).
        losses: ``[n]`` float64 loss of each record, without the regulariser.
    """

    utility: float
    losses: Array


def judge(model: Model, params: Params, x: Array, y: Array) -> Judged:
    """Evaluate a model on records; ``x`` must not be empty."""
    with torch.no_grad():
        scores = model.scores(model.tensors(params), torch.tensor(np.asarray(x), dtype=model.dtype))
        losses = model.losses(scores, torch.from_numpy(np.asarray(y))).double().numpy()
    predicted = scores.double().numpy()
    if model.spec.task == "classification":
        return Judged(float((predicted.argmax(1) == y).mean()), losses)
    spread = float(((y - y.mean()) ** 2).sum())
    error = float(((y - predicted[:, 0]) ** 2).sum())
    return Judged(1.0 - error / spread if spread > 0.0 else float("nan"), losses)


def membership_auc(members: Sequence[Array], others: Sequence[Array]) -> float:
    """Probability that a forgotten record's loss is below a held-out record's under the same model, ties counted half.

    Args:
        members: for each model the losses of what it should have forgotten.
        others: for each model the losses of held-out records.

    Returns:
        The mean over models: 0.5 is no trace, far above it is memory, far below it is over-forgetting.
    """
    shares = [
        float(((own[:, None] < rest).mean(1) + 0.5 * (own[:, None] == rest).mean(1)).mean())
        for own, rest in zip(members, others, strict=True)
    ]
    return float(np.mean(shares))


def distance(one: Params, other: Params) -> float:
    """Euclidean distance of two models' parameters."""
    return float(np.linalg.norm(flat(one) - flat(other)))
