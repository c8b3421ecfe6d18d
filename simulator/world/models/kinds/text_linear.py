"""A linear head on a bag of words."""

import torch
from torch import Tensor, nn

from palimpsest.simulator.world.specs import Frozen, Schema


class UnitLength(nn.Module):
    """x / ||x||, row by row; zeros stay."""

    def forward(self, x: Tensor) -> Tensor:
        """``[n, d]`` to the same."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        out: Tensor = x / length.clamp(min=torch.finfo(x.dtype).tiny)
        return out


def features(schema: Schema, options: Frozen) -> nn.Module:
    """``[n, d] -> [n, d]``: long texts count as much as short ones."""
    return UnitLength()
