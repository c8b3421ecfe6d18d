"""Local SGD of many clients at once: the pure, vectorised fit that clients use and that shadow models reuse.

A *pack* stacks the parameters of W local trainings along a first axis and steps them together. No slot sees another,
and kernel shapes are fixed where bits depend on them (batches are padded to ``batch_size``, packs are at least two
wide), so that a slot's result is the same bits in whatever pack it runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from simulator.world.gradients import gradients
from simulator.world.models import Model
from simulator.world.records import Array
from simulator.world.specs import Recipe

PACK = 32
"""Slots stepped together: wide enough to amortise a Python step, small enough to stay in cache."""


@dataclass(frozen=True)
class Slot:
    """One local training.

    Attributes:
        model: index of the start model.
        batches: ``[steps, batch_size]`` int64 rows of the data; -1 marks an empty place. A step whose places are all
            empty changes nothing, momentum and weight decay included.
    """

    model: int
    batches: Array


def fit(
    model: Model, starts: dict[str, Tensor], slots: Sequence[Slot], x: Tensor, y: Tensor, recipe: Recipe
) -> tuple[dict[str, Tensor], Array]:
    """Train every slot from its start model.

    Args:
        model: the architecture.
        starts: start models, stacked: name -> ``[models, ...]``.
        slots: what to train.
        x: ``[n, d]`` records that the slots' rows point into.
        y: ``[n]`` labels or targets.
        recipe: the hyper-parameters.

    Returns:
        name -> ``[slots, ...]`` trained parameters, and ``[slots]`` float64 sums over all steps of the mean batch loss
        times the number of records in the batch.
    """
    longest_first = sorted(range(len(slots)), key=lambda i: -len(slots[i].batches))
    trained = {name: torch.empty((len(slots), *shape), dtype=model.dtype) for name, shape in model.shapes.items()}
    losses = np.zeros(len(slots))
    for begin in range(0, len(slots), PACK):
        chosen = longest_first[begin : begin + PACK]
        params, pack_losses = _fit_pack(model, starts, [slots[i] for i in chosen], x, y, recipe)
        for name, value in params.items():
            trained[name][chosen] = value
        losses[chosen] = pack_losses
    return trained, losses


def _fit_pack(
    model: Model, starts: dict[str, Tensor], slots: Sequence[Slot], x: Tensor, y: Tensor, recipe: Recipe
) -> tuple[dict[str, Tensor], Array]:
    """Train one pack of slots, the longest first: at each step only those that still have batches are stepped."""
    width = max(2, len(slots))
    steps = len(slots[0].batches)
    rows = np.full((width, steps, recipe.batch_size), -1, dtype=np.int64)
    for i, slot in enumerate(slots):
        rows[i, : len(slot.batches)] = slot.batches
    places = torch.from_numpy(rows)
    origin = torch.tensor([slot.model for slot in slots] + [slots[0].model] * (width - len(slots)))
    params = {name: starts[name][origin] for name in model.names}
    velocity = {name: torch.zeros_like(value) for name, value in params.items()} if recipe.momentum else {}
    started = torch.zeros(width, dtype=torch.bool)
    total = torch.zeros(width, dtype=torch.float64)
    for step in range(steps):
        active = max(2, sum(len(slot.batches) > step for slot in slots))
        now = {name: value[:active] for name, value in params.items()}
        chosen = places[:active, step]
        filled = chosen >= 0
        count = filled.sum(1)
        picked = chosen.clamp(min=0).flatten()
        batch_x = x.index_select(0, picked).view(active, recipe.batch_size, -1).to(model.dtype)
        batch_y = y.index_select(0, picked).view(active, recipe.batch_size)
        slopes, loss = gradients(model, now, batch_x, batch_y, filled, count.clamp(min=1).to(model.dtype))
        moved = count > 0
        total[:active] += torch.where(moved, loss.double() * count, 0.0)
        old_velocity = {name: value[:active] for name, value in velocity.items()}
        _descend(now, slopes, old_velocity, moved, started[:active], recipe)
        started[:active] |= moved
    return {name: value[: len(slots)] for name, value in params.items()}, total[: len(slots)].numpy()


def _descend(
    params: dict[str, Tensor],
    slopes: dict[str, Tensor],
    velocity: dict[str, Tensor],
    moved: Tensor,
    started: Tensor,
    recipe: Recipe,
) -> None:
    """One step of SGD in place, as ``torch.optim.SGD`` takes it; slots that did not move keep every bit.

    ``slopes`` are used up.
    """
    everyone = bool(moved.all())
    for name, value in params.items():
        change = slopes[name]
        if recipe.l2:
            change.add_(value, alpha=recipe.l2)
        if recipe.momentum:
            first = ~started.view(-1, *[1] * (value.dim() - 1))
            change = torch.where(first, change, recipe.momentum * velocity[name] + change)
            velocity[name].copy_(change if everyone else _keep(moved, change, velocity[name]))
        # The same kernel either way: a slot's bits must not depend on whether a neighbour stood still.
        if everyone:
            value.add_(change, alpha=-recipe.learning_rate)
        else:
            value.copy_(_keep(moved, value.add(change, alpha=-recipe.learning_rate), value))


def _keep(moved: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(moved.view(-1, *[1] * (old.dim() - 1)), new, old)
