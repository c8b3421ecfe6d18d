"""Gradients of many models at once, each on records of its own.

They are written out as batched matrix products of fixed shapes. That is fast: it takes a few kernels instead of the
hundreds that ``vmap(grad)`` goes through. And it is repeatable: the grouped convolutions that ``vmap`` makes of a
convolutional network change their kernel, and with it the last bits, with the number of models.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.world.models import Model

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Outer:
    """The gradients -``pull``^T ``inputs`` of W layers' weights, as their factors ``[W, b, out]`` and ``[W, b, in]``.

    A step of SGD adds the product to the weights as it is formed: a matrix of its own would cost more than the product.
    """

    pull: Tensor
    inputs: Tensor


def onto(target: Tensor, keep: float, gradient: Tensor | Outer, rate: float) -> None:
    """``target`` <- ``keep`` ``target`` + ``rate`` ``gradient``, in place."""
    if isinstance(gradient, Outer):
        target.baddbmm_(gradient.pull.transpose(1, 2), gradient.inputs, beta=keep, alpha=-rate)
    else:
        target.mul_(keep).add_(gradient, alpha=rate)


def gradients(
    model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, count: Tensor
) -> dict[str, Tensor | Outer]:
    """Gradient of each model's mean loss over its filled places.

    Args:
        model: the architecture.
        params: name -> ``[W, ...]``.
        x: ``[W, b, d]`` records.
        y: ``[W, b]`` labels or targets.
        filled: ``[W, b]`` which places count; what stands in the others, being finite, adds exact zeros.
        count: ``[W]`` number of filled places, at least 1, of the parameters' type.

    Returns:
        name -> ``[W, ...]`` gradients.
    """
    if model.linear:
        return _linear(model, params, model.embed(x), y, filled, count)
    written = _mlp if model.spec.kind == "mlp" else _cnn
    return written(model, params, x, y, filled, count)


def _linear(
    model: Model, params: Params, features: Tensor, y: Tensor, filled: Tensor, count: Tensor
) -> dict[str, Tensor | Outer]:
    pull = _pull(model, _layer(features, params["weight"], params["bias"]), y, filled, count)
    return _of_layer("", pull, features)


def _mlp(
    model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, count: Tensor
) -> dict[str, Tensor | Outer]:
    """Linear, ReLU, linear: back through both layers."""
    hidden = _layer(x, params["0.weight"], params["0.bias"]).relu_()
    pull = _pull(model, _layer(hidden, params["2.weight"], params["2.bias"]), y, filled, count)
    through = torch.where(hidden > 0.0, torch.bmm(pull, params["2.weight"]), 0.0)
    return {**_of_layer("0.", through, x), **_of_layer("2.", pull, hidden)}


def _cnn(
    model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, count: Tensor
) -> dict[str, Tensor | Outer]:
    """Convolution, ReLU, convolution, ReLU, linear; images stand channel by channel, ``[W, C, b, height, width]``."""
    slots, batch, _ = x.shape
    images = x.view(slots, batch, *model.spec.shape).transpose(1, 2)
    first, second = model.convolutions
    patches = first.patches(images)
    low = _convolved(patches, params["1.weight"], params["1.bias"]).relu_()
    low = low.view(slots, -1, batch, *first.sides)
    parts = second.patches(low)
    high = _convolved(parts, params["3.weight"], params["3.bias"]).relu_()
    features = high.view(slots, -1, batch, math.prod(second.sides)).transpose(1, 2).reshape(slots, batch, -1)
    pull = _pull(model, _layer(features, params["6.weight"], params["6.bias"]), y, filled, count)
    through = torch.bmm(pull, params["6.weight"]).view(slots, batch, -1, math.prod(second.sides))
    onto_high = torch.where(high > 0.0, through.transpose(1, 2).reshape(high.shape), 0.0)
    back = second.gathered(torch.bmm(params["3.weight"].flatten(2).transpose(1, 2), onto_high), low)
    onto_low = torch.where(low > 0.0, back, 0.0).flatten(2)
    return {
        **_of_convolution("1.", onto_low, patches, params["1.weight"]),
        **_of_convolution("3.", onto_high, parts, params["3.weight"]),
        **_of_layer("6.", pull, features),
    }


def _pull(model: Model, scores: Tensor, y: Tensor, filled: Tensor, count: Tensor) -> Tensor:
    """Minus the gradient of the mean loss by the scores, ``[W, b, Q]``."""
    return torch.where(filled.unsqueeze(-1), model.residual(scores, y), 0.0).div_(count.view(-1, 1, 1))


def _layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def _of_layer(prefix: str, pull: Tensor, inputs: Tensor) -> dict[str, Tensor | Outer]:
    """Gradients of a layer's weight and bias from minus the gradient of its outputs, and its inputs."""
    return {f"{prefix}weight": Outer(pull, inputs), f"{prefix}bias": pull.sum(1).neg_()}


def _convolved(patches: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``[W, out, places]`` from patches ``[W, in, places]``."""
    return torch.baddbmm(bias.unsqueeze(2), weight.flatten(2), patches)


def _of_convolution(prefix: str, pull: Tensor, patches: Tensor, weight: Tensor) -> dict[str, Tensor | Outer]:
    gradient = torch.bmm(pull, patches.transpose(1, 2)).neg_()
    return {f"{prefix}weight": gradient.view(weight.shape), f"{prefix}bias": pull.sum(2).neg_()}
