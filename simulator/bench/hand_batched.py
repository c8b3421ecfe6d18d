"""What the machine gives: local training batched by hand, with no framework, no message and no server around it.

The arithmetic is Palimpsest's: float32 steps, float64 sums, the same orders of records. The step of each model is
written out for it alone, so that nothing is asked twice. For linear layers these are batched products; convolutions are
grouped ones under autograd, which is what one writes first, and not the fastest.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy

from palimpsest.simulator.bench.work import RECIPE, RECORDS, Work, opened
from palimpsest.simulator.bench.workloads import GREY
from palimpsest.simulator.world.models.batches import drawn
from palimpsest.simulator.world.models.convolutions import STRIDE, layers_of
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.seeding import generators

WIDTH = 16
"""Clients stepped together: parameters and records of so many stay in a core's cache."""


def hand_batched(work: Work, model: Params, clients: Sequence[int], round: int) -> dict[str, Array]:
    """Sum of the clients' updates; see ``loops.Loops``."""
    x, y = opened(work.directory)
    start, step = work.model.tensors(model), STEPS[work.kind]
    total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in start.items()}
    streams = generators(0, [("batches", client, round) for client in clients])
    for begin in range(0, len(clients), WIDTH):
        pack = clients[begin : begin + WIDTH]
        orders = [drawn(RECORDS, (), RECIPE, next(streams), False) + client * RECORDS for client in pack]
        rows = torch.from_numpy(np.stack(orders, axis=1))
        params = {name: value.expand(len(pack), *value.shape).clone() for name, value in start.items()}
        for places in rows:
            records = x.index_select(0, places.flatten()).view(*places.shape, -1)
            step(params, records, y.index_select(0, places.flatten()).view(places.shape))
        for name, value in params.items():
            total[name] += value.sub_(start[name]).sum(0, dtype=torch.float64)
    return {name: value.numpy() for name, value in total.items()}


def _softmax(params: dict[str, Tensor], x: Tensor, y: Tensor) -> None:
    weight, bias = params["weight"], params["bias"]
    _descend(weight, bias, _slope(torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2)), y), x)


def _mlp(params: dict[str, Tensor], x: Tensor, y: Tensor) -> None:
    first, low, second, high = (params[name] for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    hidden = torch.baddbmm(low.unsqueeze(1), x, first.transpose(1, 2)).relu_()
    slope = _slope(torch.baddbmm(high.unsqueeze(1), hidden, second.transpose(1, 2)), y)
    below = torch.ops.aten.threshold_backward(torch.bmm(slope, second), hidden, 0.0)
    _descend(second, high, slope, hidden)
    _descend(first, low, below, x)


def _slope(scores: Tensor, y: Tensor) -> Tensor:
    """Of the mean cross-entropy by the scores."""
    slope = torch.softmax(scores, -1)
    return slope.scatter_add_(2, y.unsqueeze(2), slope.new_full((*y.shape, 1), -1.0)).div_(y.shape[1])


def _descend(weight: Tensor, bias: Tensor, slope: Tensor, inputs: Tensor) -> None:
    weight.baddbmm_(slope.transpose(1, 2), inputs, alpha=-RECIPE.learning_rate)
    bias.sub_(slope.sum(1), alpha=RECIPE.learning_rate)


def _cnn(params: dict[str, Tensor], x: Tensor, y: Tensor) -> None:
    clients, batch, _ = x.shape
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    seen = x.view(clients, batch, *GREY).transpose(0, 1).reshape(batch, clients * GREY[0], *GREY[1:])
    for name, layer in zip(("1", "3"), layers_of(GREY), strict=True):
        weight, bias = leaves[f"{name}.weight"].flatten(0, 1), leaves[f"{name}.bias"].flatten()
        seen = torch.relu(conv2d(seen, weight, bias, STRIDE, layer.padding, groups=clients))
    features = seen.reshape(batch, clients, -1).transpose(0, 1)
    scores = torch.baddbmm(leaves["6.bias"].unsqueeze(1), features, leaves["6.weight"].transpose(1, 2))
    loss = cross_entropy(scores.flatten(0, 1), y.flatten(), reduction="sum") / batch
    for name, slope in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
        params[name].sub_(slope, alpha=RECIPE.learning_rate)


STEPS: Mapping[str, Callable[[dict[str, Tensor], Tensor, Tensor], None]] = {
    "softmax": _softmax,
    "mlp": _mlp,
    "cnn": _cnn,
}
"""In place, by the models that somebody has written one for."""
