"""One hidden layer of ReLUs."""

import torch
from torch import Tensor, nn

from palimpsest.simulator.world.models.kinds import MlpOptions
from palimpsest.simulator.world.models.layers import Backward, Params, layer, pull_of, through_relu
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.specs import Schema


def build(schema: Schema, options: MlpOptions) -> nn.Module:
    """Linear, ReLU, linear."""
    first = nn.Linear(schema.width, options.hidden)
    return nn.Sequential(first, nn.ReLU(), nn.Linear(options.hidden, schema.outputs))


def gradients(
    model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, count: Tensor
) -> tuple[Backward, Backward]:
    """Linear, ReLU, linear: back through both layers."""
    hidden = layer(x, params["0.weight"], params["0.bias"]).relu_()
    pull = pull_of(model, layer(hidden, params["2.weight"], params["2.bias"]), y, filled, count)
    through = through_relu(torch.bmm(pull, params["2.weight"]), hidden)
    return {"0.": (through, x), "2.": (pull, hidden)}, {}
