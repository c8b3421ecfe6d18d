"""Unlearning that a client does by itself: several local steps up the loss of what it deletes."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from torch import Tensor

from palimpsest.clients.local_data import LocalData
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.models.training import Slot, fit
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.protocols.questions import Train
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Recipe

Training: TypeAlias = Callable[[slice], dict[str, Tensor]]
"""Train some of a group's clients; return name -> ``[clients, ...]`` their parameters."""


def ascending(
    data: LocalData, model: Model, starts: dict[str, Tensor], blocks: Sequence[Block], question: Train
) -> Training:
    """Every client's ascent; see ``Ascent``.

    Args:
        data: of the clients.
        model: the architecture.
        starts: start models, stacked.
        blocks: at least one, all with the same ascent.
        question: whose minibatches have the training's size.
    """
    how = blocks[0].ascent
    assert how is not None
    batch = question.recipe.batch_size
    upward = Recipe(batch_size=batch, learning_rate=-how.learning_rate)
    x, y, begins = data.gather(blocks)
    slots = []
    for block in blocks:
        data.ask_tombstones(block, "forgotten")
        for client in block.clients:
            rows = begins[client] + np.asarray(block.forget.get(client, ()), dtype=np.int64)
            slots.append(Slot(block.model, np.tile(_cut(rows, batch), (how.epochs, 1))))
    return lambda which: fit(model, starts, slots[which], x, y, upward)


def _cut(rows: Array, size: int) -> Array:
    """``[batches, size]`` rows in their order, -1 for an empty place."""
    places = np.full((max(1, -(-len(rows) // size)), size), -1, dtype=np.int64)
    places.reshape(-1)[: len(rows)] = rows
    return places
