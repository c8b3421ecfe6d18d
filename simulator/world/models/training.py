"""Local SGD of many clients at once: the pure, vectorised fit that clients use and that shadow models reuse.

A *pack* stacks the parameters of W local trainings along a first axis and steps them together, in place. No slot sees
another, and kernel shapes are fixed where bits depend on them (batches are padded to ``batch_size``, packs are at least
two wide), so that a slot's result is the same bits in whatever pack it runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palimpsest.simulator.world.models.gradients import gradients
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.models.steps import OptimizerStep, descend, memory_of, pulls_of
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Recipe

PACK_BYTES = 2**20
"""Parameters stepped together: what a core's cache holds."""

NARROWEST, ENOUGH, WIDEST = 8, 16, 64
"""Slots stepped together: enough to amortise a Python step, where that overflows the cache by four times at most, and
some even where it overflows it by more."""


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
    model: Model,
    starts: dict[str, Tensor],
    slots: Sequence[Slot],
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    shifts: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Train every slot from its start model.

    Args:
        model: the architecture.
        starts: start models, stacked: name -> ``[models, ...]``.
        slots: what to train.
        x: ``[n, d]`` records that the slots' rows point into, on the device where everything is computed.
        y: ``[n]`` labels or targets.
        recipe: the hyper-parameters.
        shifts: name -> ``[slots, ...]`` what each slot adds to its gradients; None: nothing.

    Returns:
        name -> ``[slots, ...]`` trained parameters.
    """
    order = sorted(range(len(slots)), key=lambda i: -len(slots[i].batches))
    sorted_slots = [slots[i] for i in order]
    least = least_width(model)
    if len(slots) < least:
        sorted_slots, order = sorted_slots * 2, order * 2
    origin = torch.tensor([slot.model for slot in sorted_slots], dtype=torch.int64).to(x.device)
    params = {name: starts[name].new_empty((len(order), *starts[name].shape[1:])) for name in model.names}
    shifts_of = {name: value[order] for name, value in (shifts or {}).items()}
    width = pack_width(model)
    begins = list(range(0, len(sorted_slots) - least + 1, width))  # what would be too narrow a pack joins the last
    for begin, end in zip(begins, [*begins[1:], len(sorted_slots)], strict=True):
        pack = {name: value[begin:end] for name, value in params.items()}
        for name, value in pack.items():  # of this pack alone, whose parameters are then in the core's cache
            torch.index_select(starts[name], 0, origin[begin:end], out=value)
        pull = pulls_of(pack, recipe, {name: value[begin:end] for name, value in shifts_of.items()})
        _fit_pack(model, pack, [slot.batches for slot in sorted_slots[begin:end]], x, y, recipe, pull)
    if order == list(range(len(slots))):
        return params
    back = torch.from_numpy(np.argsort(order[: len(slots)])).to(x.device)
    return {name: value.index_select(0, back) for name, value in params.items()}


def least_width(model: Model) -> int:
    """Slots stepped together at least: a lone matrix may take another kernel than a stack of them."""
    return 1 if model.alone else 2


def pack_width(model: Model) -> int:
    """Slots stepped together at most; decides speed, and no bit.

    Where gradients are taken of one model, or of a fixed number at once, these are stepped before the next ones' are.
    """
    if model.alone:
        return 1
    if model.width:
        return model.width
    cached = PACK_BYTES // model.bytes
    return min(WIDEST, max(NARROWEST, min(ENOUGH, 4 * cached), cached))


def _fit_pack(
    model: Model,
    params: dict[str, Tensor],
    batches: Sequence[Array],
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    pulls: Mapping[str, Tensor],
) -> None:
    """Train one pack in place, the longest slot first: at each step only those that still have batches are stepped."""
    lengths = np.array([len(batch) for batch in batches])
    rows = np.full((lengths[0], len(batches), recipe.batch_size), -1, dtype=np.int64)
    for i, batch in enumerate(batches):
        rows[: len(batch), i] = batch
    counts = (rows >= 0).sum(2)
    places, filled = (torch.from_numpy(what).to(x.device) for what in (np.maximum(rows, 0), rows >= 0))
    divisors = torch.from_numpy(np.maximum(counts, 1)).to(x.device, model.dtype)
    memory, taken = memory_of(params, recipe), np.cumsum(counts > 0, axis=0)
    targets = y.index_select(0, places.flatten()).view(places.shape)
    held = x.new_empty((len(batches) * recipe.batch_size, *x.shape[1:]))  # once a pack: a new one a step costs faults
    for step, (active, idle) in enumerate(_who_moves(lengths, counts, least_width(model))):
        now = {key: value[:active] for key, value in params.items()}
        kept = {key: value[:active] for key, value in memory.items()}
        pull = {key: value[:active] for key, value in pulls.items()}
        batch_x = torch.index_select(x, 0, places[step, :active].flatten(), out=held[: active * recipe.batch_size])
        batch_x = batch_x.view(active, recipe.batch_size, -1).to(model.dtype)
        slopes = gradients(model, now, batch_x, targets[step, :active], filled[step, :active], divisors[step, :active])
        # Everyone is stepped, by the same kernel, and who must not move is put back.
        still = torch.from_numpy(idle).to(x.device) if len(idle) else None
        before = [(value, value[still]) for value in (*now.values(), *kept.values())] if still is not None else []
        descend(now, slopes, OptimizerStep(kept, pull, taken[step, :active]), recipe)
        for value, old in before:
            value[still] = old


def _who_moves(lengths: Array, counts: Array, least: int) -> Iterator[tuple[int, Array]]:
    """For each step how many slots are stepped, ``least`` at least, and which of those must not move."""
    for step, filled in enumerate(counts):
        active = max(least, int((lengths > step).sum()))
        yield active, np.flatnonzero(filled[:active] == 0)
