"""Linear models: one layer on the record or on its features; what tells them apart is the loss."""

from torch import Tensor, nn

from palimpsest.simulator.world.models.layers import Backward, Params, layer, pull_of
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.specs import Frozen, Schema


def build(schema: Schema, options: Frozen) -> nn.Module:
    """Weight ``[outputs, d]`` and bias."""
    return nn.Linear(schema.width, schema.outputs)


def gradients(
    model: Model, params: Params, x: Tensor, y: Tensor, filled: Tensor, count: Tensor
) -> tuple[Backward, Backward]:
    """Of the one layer."""
    features = model.embed(x)
    return {"": (pull_of(model, layer(features, params["weight"], params["bias"]), y, filled, count), features)}, {}
