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
from palimpsest.simulator.world.models.workspace import Workspace
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
    room: Workspace | None = None,
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
        room: where what is returned lies until the next call with it; None: in memory of its own.

    Returns:
        name -> ``[slots, ...]`` trained parameters.
    """
    room = room or Workspace()
    order = sorted(range(len(slots)), key=lambda i: -len(slots[i].batches))
    sorted_slots = [slots[i] for i in order]
    least = least_width(model)
    if len(slots) < least:
        sorted_slots, order = sorted_slots * 2, order * 2
    origin = torch.tensor([slot.model for slot in sorted_slots], dtype=torch.int64).to(x.device)
    params = {name: _room_for(starts[name], len(order), room, f"trained {name}") for name in model.names}
    shifts_of = {name: value[order] for name, value in (shifts or {}).items()}
    width = pack_width(model)
    begins = list(range(0, len(sorted_slots) - least + 1, width))  # what would be too narrow a pack joins the last
    for begin, end in zip(begins, [*begins[1:], len(sorted_slots)], strict=True):
        pack = {name: value[begin:end] for name, value in params.items()}
        for name, value in pack.items():  # of this pack alone, whose parameters are then in the core's cache
            torch.index_select(starts[name], 0, origin[begin:end], out=value)
        pull = pulls_of(pack, recipe, {name: value[begin:end] for name, value in shifts_of.items()})
        _fit_pack(model, pack, [slot.batches for slot in sorted_slots[begin:end]], x, y, recipe, pull, room)
    return _in_order(params, order[: len(slots)], room)


def _in_order(params: dict[str, Tensor], order: list[int], room: Workspace) -> dict[str, Tensor]:
    """Put what was sorted, and is followed by nothing or copies, back into the order that it had."""
    if order == list(range(len(next(iter(params.values()))))):
        return params
    back = {name: _room_for(value, len(order), room, f"in order {name}") for name, value in params.items()}
    places = torch.from_numpy(np.argsort(order))
    return {
        name: torch.index_select(params[name], 0, places.to(value.device), out=value) for name, value in back.items()
    }


def _room_for(like: Tensor, count: int, room: Workspace, purpose: str) -> Tensor:
    return room.take(purpose, (count, *like.shape[1:]), like.dtype, like.device)


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
    room: Workspace,
) -> None:
    """Train one pack in place, the longest slot first: at each step only those that still have batches are stepped."""
    rows = _side_by_side(batches, recipe.batch_size)
    counts = (rows >= 0).sum(2)
    places, filled = (torch.from_numpy(what).to(x.device) for what in (np.maximum(rows, 0), rows >= 0))
    divisors = torch.from_numpy(np.maximum(counts, 1)).to(x.device, model.dtype)
    memory, taken = memory_of(params, recipe), np.cumsum(counts > 0, axis=0)
    targets = y.index_select(0, places.flatten()).view(places.shape)
    held = _room_for(x, len(batches) * recipe.batch_size, room, "records of a step")
    steps = _who_moves(np.array([len(batch) for batch in batches]), counts, least_width(model))
    now, kept, pull = params, memory, pulls
    for step, (active, idle) in enumerate(steps):
        if active < len(batches):
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


def _side_by_side(batches: Sequence[Array], size: int) -> Array:
    """``[steps, slots, size]`` the rows of each slot at each step, the longest slot first; -1 where there are none."""
    longest = len(batches[0])
    if longest and longest == len(batches[-1]):
        return np.ascontiguousarray(np.concatenate(batches).reshape(-1, longest, size).transpose(1, 0, 2))
    rows = np.full((longest, len(batches), size), -1, dtype=np.int64)
    for i, batch in enumerate(batches):
        rows[: len(batch), i] = batch
    return rows


def _who_moves(lengths: Array, counts: Array, least: int) -> Iterator[tuple[int, Array]]:
    """For each step how many slots are stepped, ``least`` at least, and which of those must not move."""
    moving, idle = (lengths > np.arange(len(counts))[:, None]).sum(1), counts == 0
    if not idle.any():
        yield from ((max(least, active), _NOBODY) for active in moving.tolist())
        return
    for active, still in zip(moving.tolist(), idle, strict=True):
        yield max(least, active), np.flatnonzero(still[: max(least, active)])


_NOBODY = np.zeros(0, dtype=np.int64)
