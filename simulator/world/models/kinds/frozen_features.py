"""A linear head on a fixed extractor, as pretrained networks are put to use; the extractor here is random."""

import math

from torch import Tensor, nn

from palimpsest.simulator.world.models.kinds import FrozenFeaturesOptions
from palimpsest.simulator.world.specs import Schema

_SIDE = 4
"""To which convolutions are averaged, whatever the size of the image."""


class _Scaled(nn.Module):
    """Features of length about 1."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.scale = 1.0 / math.sqrt(dimension)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, p]`` to the same."""
        return self.scale * x


def features(schema: Schema, options: FrozenFeaturesOptions) -> nn.Module:
    """``[n, d] -> [n, dimension]``: of images two convolutions and a layer, of tables a layer; ReLUs behind each."""
    if schema.is_image:
        channels, height, width = schema.shape
        side = min(_SIDE, height // 2, width // 2)
        layers: list[nn.Module] = [
            nn.Unflatten(-1, schema.shape),
            nn.Conv2d(channels, 16, 3, 1, 1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 32, 3, 1, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(side),
            nn.Flatten(),
            nn.Linear(32 * side**2, options.dimension),
        ]
    else:
        layers = [nn.Linear(schema.width, options.dimension)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    return nn.Sequential(*layers, nn.ReLU(), _Scaled(options.dimension))
