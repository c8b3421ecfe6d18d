"""Gradients of many models at once, each on records of its own.

Linear models and the mlp have theirs written out as batched matrix products: a few kernels instead of the hundreds that
``vmap(grad)`` goes through, which decides the speed of small models. Other models take ``vmap(grad)``.
"""

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

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


def clipped_sums(model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, clip: float) -> Params:
    """Sum over each model's filled places of the record's gradient times min(1, clip / (its length + 1e-6)).

    The gradient of a layer of one record is an outer product, whose length is the product of two: where gradients are
    written out no record's own is ever formed.

    Args and returns as for ``gradients``.
    """
    if model.linear or model.spec.kind == "mlp":
        layers = _layers(model, params, x, y, filled)
        squares = [(pull**2).sum(-1) * ((inputs**2).sum(-1) + 1.0) for pull, inputs in layers.values()]
        factor = _clip_factor(torch.stack(squares).sum(0), clip).unsqueeze(-1)
        found: Params = {}
        for prefix, (pull, inputs) in layers.items():
            found |= _of_layer(prefix, pull * factor, inputs)
        return {name: found[name] for name in model.names}

    def loss(one: Params, record: Tensor, label: Tensor) -> Tensor:
        return model.losses(model.scores(one, record.unsqueeze(0)), label.unsqueeze(0)).squeeze(0)

    each = vmap(vmap(grad(loss), in_dims=(None, 0, 0)))(params, x, y)
    squares = [value.flatten(2).square().sum(-1) for value in each.values()]
    factor = torch.where(filled, _clip_factor(torch.stack(squares).sum(0), clip), 0.0)
    return {name: torch.einsum("wb,wb...->w...", factor, value) for name, value in each.items()}


def _clip_factor(squares: Tensor, clip: float) -> Tensor:
    return (clip / (squares.sqrt() + 1e-6)).clamp(max=1.0)


def _layers(model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """For each layer minus the gradient of each record's loss by the layer's outputs, and the layer's inputs."""
    one = torch.ones(len(x), dtype=x.dtype)
    if model.linear:
        features = model.embed(x)
        scores = _layer(features, params["weight"], params["bias"])
        return {"": (_pull(model, scores, y, filled, one)[0], features)}
    hidden = torch.relu(_layer(x, params["0.weight"], params["0.bias"]))
    scores = _layer(hidden, params["2.weight"], params["2.bias"])
    pull, _ = _pull(model, scores, y, filled, one)
    through = torch.where(hidden > 0.0, torch.bmm(pull, params["2.weight"]), 0.0)
    return {"0.": (through, x), "2.": (pull, hidden)}


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
