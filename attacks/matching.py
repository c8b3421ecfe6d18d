"""How well records explain a change of the parameters: one minus a cosine of gradients, and its slope by the records.

With g(x) the gradient of the records' summed loss by the parameters and t the change at unit length, the misfit is
m = 1 - <g, t> / |g|. Its slope by x is that of <g(x), v> at the fixed v = dm/dg, and <g, v> is the derivative of the
loss along v: a second pass through the network, in the direction v of the parameters, has it (Pearlmutter, 1994).
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.func import grad, grad_and_value
from torch.nn import functional

from palimpsest.simulator.world.models.convolutions import STRIDE, Convolution
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.models.packs import over_records

Match: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Slope of the misfit ``[b, k, d]`` and misfit ``[b]``, of records ``[b, k, d]``, labels ``[b, k]`` (of a regression:
residuals) and targets ``[b, parameters]`` of length 1 (see ``linear_matching`` for its own)."""

Linear: TypeAlias = Callable[[Tensor], Tensor]
"""A linear map of ``[..., parameters]``."""

_TINY = 1e-12


def matching(model: Model, path: Sequence[dict[str, Tensor]], whiten: Linear | None = None) -> Match:
    """The misfit of gradients added up over the models of a path, in their type.

    Written out for a cnn, differentiated for other networks.

    Args:
        model: the architecture.
        path: at least one model.
        whiten: a symmetric linear map of gradients before they are compared; targets have gone through it.
    """
    layers = model.convolutions
    if layers is None:
        return _anyhow(model, path, whiten)
    return _along([_Written(model, params, layers) for params in path], whiten)


def linear_matching(model: Model) -> Match:
    """The misfit of the gradients sum of x~ r^T of linear heads, each at parameters of its own.

    Targets are ``[b, 2, p + 1, Q]``: what the deletion took out of the gradient at length 1, and Theta, at which the
    records have their residuals.
    """

    def match(x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        wanted, point = target.unbind(1)
        with torch.enable_grad():
            moving = x.detach().requires_grad_()
            rows = functional.pad(model.embed(moving), (0, 1), value=1.0)
            residual = model.residual(rows @ point, y)
            gradient = (rows.transpose(1, 2) @ residual).flatten(1)
            length = gradient.norm(dim=1).clamp(min=_TINY)
            misfit = 1.0 - (gradient * wanted.flatten(1)).sum(1) / length
            (slope,) = torch.autograd.grad(misfit.sum(), moving)
        return slope, misfit.detach()

    return match


def features_apart(model: Model, at: dict[str, Tensor], begin: int) -> Match:
    """The squared distance of what the last layer sees of a record and of what it saw, over the square of the latter.

    It has no jumps, and a length, on which contrast depends; and it costs a third of a misfit of gradients, as all
    records go through the same network.

    Args:
        model: the architecture.
        at: its parameters.
        begin: where in a target the features stand; single records only.
    """

    def match(x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        wanted = target[:, begin:]
        with torch.enable_grad():
            moving = x.detach().requires_grad_()
            seen = model.before_last(at, moving[:, 0]).flatten(1)
            apart = ((seen - wanted) ** 2).sum(1) / (wanted**2).sum(1).clamp(min=_TINY)
            (slope,) = torch.autograd.grad(apart.sum(), moving)
        return slope, apart.detach()

    return match


def added(first: Match, second: Match, weight: float, begin: int) -> Match:
    """Two misfits, one weighted: of a target's first ``begin`` numbers, and of a target."""

    def match(x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        slopes, misfits = zip(first(x, y, target[:, :begin]), second(x, y, target), strict=True)
        return slopes[0] + weight * slopes[1], misfits[0] + weight * misfits[1]

    return match


def gradients_apart(model: Model, at: dict[str, Tensor]) -> Match:
    """The squared distance of the gradient and a target of known length, over the target's square; autograd.

    Args:
        model: the architecture, of classes.
        at: the parameters at which gradients are taken.
    """

    def summed(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return model.losses(model.scores(params, x), y).sum()

    def misfit(x: Tensor, y: Tensor, target: Tensor) -> Tensor:
        gradient = flat(grad(summed)(at, x, y), model)
        apart: Tensor = ((gradient - target) ** 2).sum() / (target**2).sum().clamp(min=_TINY)
        return apart

    matched: Match = over_records(model, grad_and_value(misfit), (0, 0, 0))
    return matched


def steps_apart(model: Model, start: dict[str, Tensor], steps: int, rate: float) -> Match:
    """The squared distance of where steps up the records' mean loss lead and a target, over the target's square.

    Args:
        model: the architecture, of classes.
        start: the parameters before the first step.
        steps: how many, each over all records.
        rate: of a step.
    """

    def mean_loss(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return model.losses(model.scores(params, x), y).mean()

    def misfit(x: Tensor, y: Tensor, target: Tensor) -> Tensor:
        here = start
        for _ in range(steps):
            slopes = grad(mean_loss)(here, x, y)
            here = {name: value + rate * slopes[name] for name, value in here.items()}
        gone = flat(here, model) - flat(start, model)
        apart: Tensor = ((gone - target) ** 2).sum() / (target**2).sum().clamp(min=_TINY)
        return apart

    matched: Match = over_records(model, grad_and_value(misfit), (0, 0, 0))
    return matched


def flat(params: dict[str, Tensor], model: Model) -> Tensor:
    """All parameters as one vector, in the order in which targets have them."""
    return torch.cat([params[name].reshape(-1) for name in model.names])


def roughness_slope(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Slope ``[b, k, d]`` of the mean absolute difference of neighbouring pixels, the two directions added."""
    image = x.view(len(x), -1, *shape[1:])
    slope = torch.zeros_like(image)
    for side in (-1, -2):
        uphill = image.diff(dim=side).sign_()
        uphill /= uphill[0].numel()
        slope.narrow(side, 1, image.shape[side] - 1).add_(uphill)
        slope.narrow(side, 0, image.shape[side] - 1).sub_(uphill)
    return slope.view_as(x)


def _along(steps: "Sequence[_Written]", whiten: Linear | None) -> Match:
    def match(x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        parts = [step(x, y) for step in steps]
        gradient = parts[0][0] if len(parts) == 1 else torch.stack([gradient for gradient, _ in parts]).sum(0)
        misfit, v = _misfit(gradient if whiten is None else whiten(gradient), target)
        v = v if whiten is None else whiten(v)
        slopes = [pull(v) for _, pull in parts]
        return slopes[0] if len(slopes) == 1 else torch.stack(slopes).sum(0), misfit

    return match


def _anyhow(model: Model, path: Sequence[dict[str, Tensor]], whiten: Linear | None) -> Match:
    def summed(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        scores = model.scores(params, x)
        if model.spec.task == "regression":
            y = model.scores(path[0], x)[:, 0] - y
        return model.losses(scores, y).sum()

    def misfit(x: Tensor, y: Tensor, target: Tensor) -> Tensor:
        gradient = torch.stack([flat(grad(summed)(params, x, y), model) for params in path]).sum(0)
        gradient = gradient if whiten is None else whiten(gradient)
        apart: Tensor = 1.0 - (gradient @ target) / gradient.norm().clamp(min=_TINY)
        return apart

    matched: Match = over_records(model, grad_and_value(misfit), (0, 0, 0))
    return matched


class _Written:
    """A cnn's misfit by products with patches: every record is an image of its own under the same weights.

    All images of all cases stand in one batch ``B = b k``. Names: ``p`` patches, ``h`` outputs of a layer, ``d`` slopes
    of the loss by what a layer puts out before its ReLU, ``t`` and ``e`` how outputs and slopes move along v.
    """

    def __init__(self, model: Model, before: dict[str, Tensor], layers: tuple[Convolution, Convolution]) -> None:
        self._model = model
        self._first, self._second = layers
        self._weights = [before[name].flatten(1) for name in ("1.weight", "3.weight", "6.weight")]
        self._biases = [before[name] for name in ("1.bias", "3.bias", "6.bias")]
        self._sizes = [before[name].numel() for name in model.names]

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Linear]:
        """The gradients ``[b, parameters]``, and what pulls a direction of them back to a slope by the records."""
        (w1, w2, w3), (b1, b2, b3) = self._weights, self._biases
        size = len(x), x.shape[1]
        p1 = _patches(x.flatten(0, 1), self._first)
        h1 = _convolved(p1, w1, b1).relu_()
        p2 = _patches(h1, self._second)
        h2 = _convolved(p2, w2, b2).relu_()
        features = h2.flatten(1)
        d3, bend = self._pull(torch.addmm(b3, features, w3.T), y.flatten())
        d2 = _through_relu((d3 @ w3).view_as(h2), h2)
        d1 = _through_relu(_gathered(w2.T @ d2, self._second).view_as(h1), h1)
        pairs = ((d1, p1), (d2, p2), (d3.unsqueeze(2), features.unsqueeze(2)))
        gradient = torch.cat([part for d, p in pairs for part in _of_case(d, p, size)], 1)

        def pull(v: Tensor) -> Tensor:
            return self._pulled(v, (h1, h2, d1, d2, d3, p1, p2, bend), x.shape)

        return gradient, pull

    def _pulled(self, v: Tensor, at: "tuple[Any, ...]", shape: torch.Size) -> Tensor:
        """``[b, k, d]`` slope of <gradient, v> by the records, from what the first pass has left."""
        h1, h2, d1, d2, d3, p1, p2, bend = at
        (w1, w2, w3), features = self._weights, h2.flatten(1)
        v1, c1, v2, c2, v3, c3 = self._directions(v, shape[1])
        t1 = _through_relu(torch.baddbmm(c1.unsqueeze(2), v1, p1), h1)
        t2 = _through_relu(torch.baddbmm(c2.unsqueeze(2), v2, p2).add_(w2 @ _patches(t1, self._second)), h2)
        e3 = bend(torch.addmm(c3, t2.flatten(1), w3.T).add_((v3 @ features.unsqueeze(2)).squeeze(2)))
        e2 = _through_relu(((d3.unsqueeze(1) @ v3).squeeze(1) + e3 @ w3).view_as(h2), h2)
        back = torch.bmm(v2.transpose(1, 2), d2).add_(w2.T @ e2)
        e1 = _through_relu(_gathered(back, self._second).view_as(h1), h1)
        slope = _gathered(torch.bmm(v1.transpose(1, 2), d1).add_(w1.T @ e1), self._first)
        return slope.reshape(shape)

    def _pull(self, scores: Tensor, y: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Slope ``[B, Q]`` of the losses by the scores, and how it moves with them."""
        if self._model.spec.task == "regression":  # y is the residual itself, wherever x is
            return y.unsqueeze(1), torch.zeros_like
        chances = torch.softmax(scores, 1)
        return -self._model.residual(
            scores, y
        ), lambda moved: chances * (moved - (chances * moved).sum(1, keepdim=True))

    def _directions(self, v: Tensor, copies: int) -> list[Tensor]:
        """``[B, ...]`` the parts of v by layer, weights as ``[out, in]``, for each record of a case."""
        parts = torch.split(v.repeat_interleave(copies, 0), self._sizes, 1)
        shapes = [like for pair in zip(self._weights, self._biases, strict=True) for like in pair]
        return [part.view(len(part), *like.shape) for part, like in zip(parts, shapes, strict=True)]


def _misfit(gradient: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """``[b]`` 1 - cosine, and its slope by the gradient, in the gradient's place."""
    length = torch.linalg.vector_norm(gradient, dim=1).clamp_(min=_TINY)
    cosine = torch.bmm(gradient.unsqueeze(1), target.unsqueeze(2)).flatten() / length
    slope = gradient.mul_((cosine / length**2).unsqueeze(1)).addcmul_(target, (-1.0 / length).unsqueeze(1))
    return 1.0 - cosine, slope


def _of_case(d: Tensor, p: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """``[b, out * in]`` and ``[b, out]`` a layer's gradient, summed over the records of each case."""
    weight, bias = torch.bmm(d, p.transpose(1, 2)).flatten(1), d.sum(2)
    return weight.view(*size, -1).sum(1), bias.view(*size, -1).sum(1)


def _patches(images: Tensor, layer: Convolution) -> Tensor:
    """``[B, in * kernel^2, windows]`` what each window sees."""
    return functional.unfold(images.reshape(-1, *layer.seen), layer.kernel, padding=layer.padding, stride=STRIDE)


def _gathered(patches: Tensor, layer: Convolution) -> Tensor:
    """``[B, in, H, W]`` the transpose of ``_patches``."""
    return functional.fold(patches, layer.seen[1:], layer.kernel, padding=layer.padding, stride=STRIDE)


def _convolved(patches: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), weight.expand(len(patches), -1, -1), patches)


def _through_relu(slope: Tensor, output: Tensor) -> Tensor:
    through: Tensor = torch.ops.aten.threshold_backward(slope, output, 0)
    return through
