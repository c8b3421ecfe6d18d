"""Clients' updates bounded in length, each of the same weight: what client-level privacy adds up."""

import numpy as np
import torch
from torch import Tensor

from simulator.world.models import Model
from simulator.world.protocols import Block, BlockResult
from simulator.world.records import Array


def clipped_sum(
    model: Model,
    starts: dict[str, Tensor],
    block: Block,
    trained: dict[str, Tensor],
    records: list[int],
    losses: Array,
) -> BlockResult:
    """Sum over one block of u_k min(1, S / ||u_k||), u_k = local - global model, S the block's ``update_clip``.

    Clients weigh 1 each, whatever they hold; who has nothing contributes null. Metrics: ``counted``, how
    many clients had records, and ``unclipped``, how many of these were within S.

    Args:
        model: the architecture.
        starts: the global models.
        block: whose clients.
        trained: name -> ``[clients, ...]``.
        records: that each client trained on.
        losses: not used: they would leave the client in the clear.
    """
    updates = {name: (trained[name] - starts[name][block.model]).double() for name in model.names}
    length = torch.stack([update.flatten(1).square().sum(1) for update in updates.values()]).sum(0).sqrt()
    scale = block.update_clip / length.clamp(min=block.update_clip)
    sums = {name: torch.tensordot(scale, update, dims=1).numpy() for name, update in updates.items()}
    counted = np.array(records) > 0
    within = (length <= block.update_clip).numpy() & counted
    return BlockResult(sums, float(len(records)), {"unclipped": float(within.sum()), "counted": float(counted.sum())})
