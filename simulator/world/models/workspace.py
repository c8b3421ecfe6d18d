"""Memory that one pack of models takes after the other: fresh memory costs a page fault for every 4 KiB."""

import math

import torch
from torch import Tensor

KEPT = 2**24
"""Bytes that are kept from pack to pack at most: what takes more is asked for anew."""


class Workspace:
    """Memory by purpose, kept for whoever asks next; not to be shared by threads."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, purpose: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor of this shape whose values mean nothing; it is valid until somebody asks for the same purpose."""
        size, key = math.prod(shape), (purpose, dtype, device)
        kept = self._kept.get(key)
        if kept is None or len(kept) < size:
            self._kept.pop(key, None)
            kept = torch.empty(size, dtype=dtype, device=device)
            if sum(other.nbytes for other in self._kept.values()) + kept.nbytes > KEPT:
                self._kept.clear()
            if kept.nbytes <= KEPT:
                self._kept[key] = kept
        return kept[:size].view(shape)
