"""A residual network for small images, without statistics over a batch."""

from torch import Tensor, nn

from palimpsest.simulator.world.models.kinds import ResNetOptions
from palimpsest.simulator.world.specs import Schema

_GROUP = 16
"""Channels that are normalised together (Wu and He, 2018)."""


class _Block(nn.Module):
    """Two 3 x 3 convolutions, and a way around them: the record itself, or a 1 x 1 convolution where sizes differ."""

    def __init__(self, inward: int, outward: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
        self.first_norm = _norm(outward)
        self.second = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.second_norm = _norm(outward)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or inward != outward:
            self.around = nn.Sequential(nn.Conv2d(inward, outward, 1, stride, bias=False), _norm(outward))

    def forward(self, x: Tensor) -> Tensor:
        """``[n, inward, H, W] -> [n, outward, H / stride, W / stride]``."""
        inner = self.first_norm(self.first(x)).relu()
        out: Tensor = (self.second_norm(self.second(inner)) + self.around(x)).relu()
        return out


def build(schema: Schema, options: ResNetOptions) -> nn.Module:
    """ResNet-18 (He et al., CVPR 2016): a 3 x 3 stem that keeps the size, four stages of two blocks, mean, linear.

    GroupNorm stands where BatchNorm does, whose statistics would mix records and leak them. ``options.channels`` are
    those of the first stage, 64 in the paper; each later stage has twice as many on half the sides.
    """
    width = options.channels
    stages: list[nn.Module] = []
    inward = width
    for stage in range(4):
        outward = width * 2**stage
        stages.append(nn.Sequential(_Block(inward, outward, 1 if stage == 0 else 2), _Block(outward, outward, 1)))
        inward = outward
    return nn.Sequential(
        nn.Unflatten(-1, schema.shape),
        nn.Conv2d(schema.shape[0], width, 3, 1, 1, bias=False),
        _norm(width),
        nn.ReLU(),
        *stages,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(-3),
        nn.Linear(inward, schema.outputs),
    )


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // _GROUP), channels)
