"""The ConvNet of the literature on gradient inversion: wide convolutions, the first one at the image's own size."""

from torch import nn

from palimpsest.simulator.world.models.kinds import ConvNetOptions
from palimpsest.simulator.world.specs import Schema

_WIDEST = 4
"""Channels of the widest layer, in those of the first."""


def build(schema: Schema, options: ConvNetOptions) -> nn.Module:
    """conv-ReLU ``depth`` times, halved by mean pooling in between, and a linear head.

    Every convolution has 3 x 3 windows with a stride of 1 and a border of zeros; channels double up to four times the
    first layer's. Images of few pixels are halved as long as two remain on a side.
    """
    channels, height, width = schema.shape
    layers: list[nn.Module] = []
    for depth in range(options.depth):
        if depth and min(height, width) >= 4:
            layers.append(nn.AvgPool2d(2))
            height, width = height // 2, width // 2
        wider = options.channels * min(2**depth, _WIDEST)
        layers += [nn.Conv2d(channels, wider, 3, 1, 1), nn.ReLU()]
        channels = wider
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, schema.outputs))
