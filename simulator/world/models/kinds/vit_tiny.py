"""A small vision transformer, in operations that ``vmap`` has rules for and without dropout."""

import torch
from torch import Tensor, nn

from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.kinds import VitOptions
from palimpsest.simulator.world.specs import Schema


class _Attention(nn.Module):
    """Multi-head self-attention, written out: the fused kernel has no batching rule."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, tokens, width]`` to the same."""
        records, tokens, _ = x.shape
        parts = self.inward(x).reshape(records, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        weights = torch.softmax(query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5, -1)
        out: Tensor = self.outward((weights @ value).transpose(1, 2).flatten(2))
        return out


class _Block(nn.Module):
    """Attention and a layer of twice the width, each with a way around it, norms first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first_norm, self.attention = nn.LayerNorm(width), _Attention(width, heads)
        self.second_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """``[n, tokens, width]`` to the same."""
        x = x + self.attention(self.first_norm(x))
        out: Tensor = x + self.mlp(self.second_norm(x))
        return out


class _Tokens(nn.Module):
    """Patches of an image, each mapped to a token, and where each one stands."""

    def __init__(self, patch: int, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.patch = patch
        channels, rows, columns = shape[0], shape[1] // patch, shape[2] // patch
        self.embed = nn.Linear(channels * patch**2, width)
        self.place = nn.Parameter(0.02 * torch.randn(rows * columns, width))

    def forward(self, x: Tensor) -> Tensor:
        """``[n, channels, height, width]`` to ``[n, tokens, width]``."""
        records, channels, height, width = x.shape
        side = self.patch
        cut = x.reshape(records, channels, height // side, side, width // side, side)
        patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        out: Tensor = self.embed(patches) + self.place
        return out


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """``[n, tokens, width] -> [n, width]``."""
        return x.mean(1)


def build(schema: Schema, options: VitOptions) -> nn.Module:
    """Patches, blocks, norm, mean over tokens, linear head (Dosovitskiy et al., ICLR 2021; its tiny kin).

    Raises:
        ModelError: patches do not fit the image, or heads the width.
    """
    if any(side % options.patch for side in schema.shape[1:]):
        raise ModelError(
            f"model.patch = {options.patch} does not divide images of {schema.shape[1]} x {schema.shape[2]} pixels; "
            f"give a divisor of both sides"
        )
    if options.width % options.heads:
        raise ModelError(f"model.heads = {options.heads} does not divide model.width = {options.width}; give a divisor")
    return nn.Sequential(
        _Tokens(options.patch, schema.shape, options.width),
        *[_Block(options.width, options.heads) for _ in range(options.depth)],
        nn.LayerNorm(options.width),
        _Mean(),
        nn.Linear(options.width, schema.outputs),
    )
