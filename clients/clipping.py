"""The sum of clients' updates under client-level privacy: each bounded in length, all of the same weight."""

import torch
from torch import Tensor

from palimpsest.simulator.world.protocols.federation import BlockResult
from palimpsest.simulator.world.records import Array


def clipped_sum(updates: dict[str, Tensor], weights: Array, clip: float) -> BlockResult:
    """Sum over one block of u_k min(1, S / ||u_k||), u_k = local - global model.

    Clients weigh 1 each, whatever they hold; who has nothing contributes null. Metrics: ``counted``, how many clients
    had anything, and ``unclipped``, how many of these were within S.

    Args:
        updates: name -> ``[clients, ...]``.
        weights: ``[clients]`` of an ordinary mean: 0 for clients that have nothing.
        clip: S.
    """
    double = {name: update.double() for name, update in updates.items()}
    length = torch.stack([update.flatten(1).square().sum(1) for update in double.values()]).sum(0).sqrt()
    scale = clip / length.clamp(min=clip)
    sums = {name: torch.tensordot(scale, update, dims=1).cpu().numpy() for name, update in double.items()}
    counted = weights > 0
    within = (length <= clip).cpu().numpy() & counted
    metrics = {"unclipped": float(within.sum()), "counted": float(counted.sum())}
    return BlockResult(sums, float(len(weights)), metrics)
