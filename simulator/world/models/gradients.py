"""Gradients of many models at once, each on records of its own.

Small models are written out as batched matrix products of fixed shapes. That is fast: a few kernels instead of the
hundreds that ``vmap(grad)`` goes through. And it is repeatable: the grouped convolutions that ``vmap`` makes of a
convolutional network change their kernel, and with it the last bits, with the number of models. Other models go through
``vmap`` always as many at once, or one after the other, where their kernels need no company to be worth their call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.func import grad

from palimpsest.simulator.world.models.layers import Params
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.models.packs import over_models, over_records, stacked


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
        (target.mul_(keep) if keep != 1.0 else target).add_(gradient, alpha=rate)


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
    if model.written is None:
        return _anyhow(model, params, x, y, filled, count)
    layers, convolutions = model.written(model, params, x, y, filled, count)
    by_name: dict[str, Tensor | Outer] = {}
    for prefix, (pull, inputs) in layers.items():
        by_name |= {f"{prefix}weight": Outer(pull, inputs), f"{prefix}bias": pull.sum(1).neg_()}
    for prefix, (pull, patches) in convolutions.items():
        summed = torch.bmm(pull, patches.transpose(1, 2)).neg_()
        by_name |= {f"{prefix}weight": summed.view_as(params[f"{prefix}weight"]), f"{prefix}bias": pull.sum(2).neg_()}
    return by_name


def _anyhow(
    model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, count: Tensor
) -> dict[str, Tensor | Outer]:
    """The same of a model whose gradients are not written out."""

    def mean_loss(params_of: Params, x1: Tensor, y1: Tensor, filled1: Tensor, count1: Tensor) -> Tensor:
        each = model.losses(model.scores(params_of, x1), y1)
        return torch.where(filled1, each, 0.0).sum() / count1

    if not model.alone:
        together: Params = over_models(model, grad(mean_loss), (0, 0, 0, 0, 0))(params, x, y, filled, count)
        return dict(together)
    gradients_of = [
        _first_derivatives(
            mean_loss, {name: value[i] for name, value in params.items()}, x[i], y[i], filled[i], count[i]
        )
        for i in range(len(x))
    ]
    return {name: stacked([params_of[name] for params_of in gradients_of]) for name in params}


def _first_derivatives(loss: Callable[..., Tensor], params: Params, *about: Tensor) -> Params:
    """What ``torch.func.grad`` gives, without a graph for second derivatives: some layers' gradients are then slow."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        slopes = torch.autograd.grad(loss(leaves, *about), list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, slopes, strict=True))


def clipped_sums(model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, clip: float) -> Params:
    """Sum over each model's filled places of the record's gradient times min(1, clip / (its length + 1e-6)).

    A record's gradient of a layer is an outer product, whose length is the product of two, so it is never formed; that
    of a convolution is a sum of such products, which has to be.

    Args and returns as for ``gradients``.
    """
    if model.written is None:
        return _clipped_anyhow(model, params, x, y, filled, clip)
    ones = torch.ones(len(x), dtype=x.dtype, device=x.device)
    layers, convolutions = model.written(model, params, x, y, filled, ones)
    each = {prefix: _of_each(pull, patches, x.shape[1]) for prefix, (pull, patches) in convolutions.items()}
    squares = [pull.square().sum(-1) * (inputs.square().sum(-1) + 1.0) for pull, inputs in layers.values()]
    squares += [part.square().sum(-1) for both in each.values() for part in both]
    # One after the other: the order of a reduction may depend on the shape.
    factor = _clip_factor(reduce(torch.add, squares), clip).unsqueeze(1)
    sums_of: Params = {}
    for prefix, (pull, inputs) in layers.items():
        clipped = pull * factor.transpose(1, 2)
        sums_of[f"{prefix}weight"] = torch.bmm(clipped.transpose(1, 2), inputs).neg_()
        sums_of[f"{prefix}bias"] = clipped.sum(1).neg_()
    for prefix, (weights, biases) in each.items():
        sums_of[f"{prefix}weight"] = torch.bmm(factor, weights).neg_().view_as(params[f"{prefix}weight"])
        sums_of[f"{prefix}bias"] = torch.bmm(factor, biases).neg_().squeeze(1)
    return {name: sums_of[name] for name in model.names}


def _clipped_anyhow(model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, clip: float) -> Params:
    """The same of any model, by gradients of every record."""

    def loss(params_of: Params, record: Tensor, label: Tensor) -> Tensor:
        return model.losses(model.scores(params_of, record.unsqueeze(0)), label.unsqueeze(0)).squeeze(0)

    of_model = over_records(model, grad(loss), (None, 0, 0))  # of a batch: always as wide
    sums = []
    for i in range(len(x)):
        each = of_model({name: value[i] for name, value in params.items()}, x[i], y[i])
        squares = [value.flatten(1).square().sum(-1) for value in each.values()]
        factor = torch.where(filled[i], _clip_factor(reduce(torch.add, squares), clip), 0.0)
        sums.append({name: torch.tensordot(factor, value, dims=1) for name, value in each.items()})
    return {name: torch.stack([params_of[name] for params_of in sums]) for name in params}


def _clip_factor(squares: Tensor, clip: float) -> Tensor:
    return (clip / (squares.sqrt() + 1e-6)).clamp(max=1.0)


def _of_each(pull: Tensor, patches: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Minus each record's gradient: by its weight ``[W, b, out * in]``, by its bias ``[W, b, out]``."""
    slots = len(pull)
    apart, seen = (
        value.view(slots, value.shape[1], -1, batch).permute(0, 3, 1, 2).reshape(slots * batch, value.shape[1], -1)
        for value in (pull, patches)
    )
    return torch.bmm(apart, seen.transpose(1, 2)).view(slots, batch, -1), apart.sum(-1).view(slots, batch, -1)
