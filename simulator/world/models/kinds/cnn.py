"""Two convolutions and a linear head."""

import math

import torch
from torch import Tensor, nn

from palimpsest.simulator.world.models.convolutions import STRIDE, layers_of
from palimpsest.simulator.world.models.layers import Backward, Params, convolved, layer, pull_of, through_relu
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.specs import Frozen, Schema


def build(schema: Schema, options: Frozen) -> nn.Module:
    """conv(8)-relu-conv(16)-relu-linear, the convolutions as ``layers_of`` has them."""
    first, second = layers_of(schema.shape)
    return nn.Sequential(
        nn.Unflatten(-1, schema.shape),
        nn.Conv2d(first.seen[0], first.channels, first.kernel, STRIDE, first.padding),
        nn.ReLU(),
        nn.Conv2d(second.seen[0], second.channels, second.kernel, STRIDE, second.padding),
        nn.ReLU(),
        nn.Flatten(-3),
        nn.Linear(second.channels * math.prod(second.sides), schema.outputs),
    )


def gradients(
    model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, count: Tensor
) -> tuple[Backward, Backward]:
    """Convolution, ReLU, convolution, ReLU, linear; what convolutions see stands as ``Convolution`` has it."""
    slots, batch, _ = x.shape
    first, second = layers_of(model.spec.shape)
    patches = first.patches(x.transpose(1, 2).contiguous())
    low = convolved(patches, params["1.weight"], params["1.bias"]).relu_()
    parts = second.patches(low.view(slots, -1, batch))
    high = convolved(parts, params["3.weight"], params["3.bias"]).relu_()
    features = high.view(slots, -1, batch).transpose(1, 2)
    pull = pull_of(model, layer(features, params["6.weight"], params["6.bias"]), y, filled, count)
    through = torch.bmm(params["6.weight"].transpose(1, 2), pull.transpose(1, 2)).view(high.shape)
    onto_high = through_relu(through, high)
    back = second.gathered(torch.bmm(params["3.weight"].flatten(2).transpose(1, 2), onto_high), batch)
    onto_low = through_relu(back.reshape(low.shape), low)
    return {"6.": (pull, features)}, {"1.": (onto_low, patches), "3.": (onto_high, parts)}
