"""Gradients of many models at once, each on records of its own.

Linear models and the mlp have theirs written out as batched matrix products: a few kernels instead of the hundreds that
``vmap(grad)`` goes through, which decides the speed of small models. Other models take ``vmap(grad)``.
"""

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from simulator.world.models import Model

Params = dict[str, Tensor]


def gradients(
    model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, count: Tensor
) -> tuple[Params, Tensor]:
    """Gradient and value of each model's mean loss over its filled places.

    Args:
        model: the architecture.
        params: name -> ``[W, ...]``.
        x: ``[W, b, d]`` records.
        y: ``[W, b]`` labels or targets.
        filled: ``[W, b]`` which places count; what stands in the others, being finite, adds exact zeros.
        count: ``[W]`` number of filled places, at least 1.

    Returns:
        name -> ``[W, ...]`` gradients, fresh tensors, and ``[W]`` values.
    """
    if model.linear:
        return _linear(model, params, model.embed(x), y, filled, count)
    if model.spec.kind == "mlp":
        return _mlp(model, params, x, y, filled, count)

    def mean_loss(one: Params, x1: Tensor, y1: Tensor, filled1: Tensor, count1: Tensor) -> Tensor:
        each = model.losses(model.scores(one, x1), y1)
        return torch.where(filled1, each, 0.0).sum() / count1

    return vmap(grad_and_value(mean_loss))(params, x, y, filled, count)


def _linear(
    model: Model, params: Params, features: Tensor, y: Tensor, filled: Tensor, count: Tensor
) -> tuple[Params, Tensor]:
    scores = _layer(features, params["weight"], params["bias"])
    pull, loss = _pull(model, scores, y, filled, count)
    return _of_layer("", pull, features), loss


def _mlp(model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, count: Tensor) -> tuple[Params, Tensor]:
    """Linear, ReLU, linear: back through both layers."""
    hidden = torch.relu(_layer(x, params["0.weight"], params["0.bias"]))
    scores = _layer(hidden, params["2.weight"], params["2.bias"])
    pull, loss = _pull(model, scores, y, filled, count)
    through = torch.where(hidden > 0.0, torch.bmm(pull, params["2.weight"]), 0.0)
    return {**_of_layer("0.", through, x), **_of_layer("2.", pull, hidden)}, loss


def _pull(model: Model, scores: Tensor, y: Tensor, filled: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the gradient of the mean loss by the scores, ``[W, b, Q]``, and its value ``[W]``."""
    pull = torch.where(filled.unsqueeze(-1), model.residual(scores, y), 0.0) / count.view(-1, 1, 1)
    return pull, torch.where(filled, model.losses(scores, y), 0.0).sum(1) / count


def _layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def _of_layer(prefix: str, pull: Tensor, x: Tensor) -> Params:
    """Gradients of a layer's weight and bias from minus the gradient of its outputs, and its inputs."""
    return {f"{prefix}weight": torch.bmm(pull.transpose(1, 2), x).neg_(), f"{prefix}bias": -pull.sum(1)}
