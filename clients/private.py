"""Private local training: DP-SGD (Abadi et al., CCS 2016) of many clients at once.

The semantics are Opacus': Poisson batches, each record's gradient clipped by min(1, C / (length + 1e-6)), noise
N(0, (sigma C)^2) on the sum, division by the EXPECTED batch size, and its sampling rate, one over the number of
batches. An empty batch still adds noise; a deleted record keeps its place, and contributes null. Tests hold the sums
equal to Opacus' own and the noise to its distribution.

As in ``world.training`` a pack steps many clients together and no slot sees another: shapes are fixed, sums over a
batch are taken chunk by chunk from zero, and each slot draws coins and noise from a source of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palimpsest.simulator.world.models.gradients import clipped_sums
from palimpsest.simulator.world.models.layers import Params
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.models.training import pack_width
from palimpsest.simulator.world.privacy.noise import Noise
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import PrivateSteps, Recipe


@dataclass(frozen=True)
class PrivateSlot:
    """One client's private training, or its private answer.

    Attributes:
        model: index of the start model.
        places: ``[records before any deletion]`` int64 rows of the data; -1 where the record is deleted.
        noise: of this client and round alone.
        coins: what says which records take part in a step; None: the noise, from which they are drawn first.
    """

    model: int
    places: Array
    noise: Noise
    coins: Noise | None = None


def batches_an_epoch(size: int, batch_size: int) -> int:
    """Steps of one epoch over so many records; their inverse is the sampling rate."""
    return -(-size // batch_size)


def steps_of(size: int, recipe: Recipe) -> int:
    """Steps of one round of a client with so many records."""
    if recipe.local_steps:
        return recipe.local_steps if size else 0
    return recipe.local_epochs * batches_an_epoch(size, recipe.batch_size)


def fit_privately(
    model: Model, starts: Params, slots: Sequence[PrivateSlot], x: Tensor, y: Tensor, recipe: Recipe
) -> Params:
    """Train every slot from its start model by private steps; see ``world.training.fit``.

    Returns:
        name -> ``[slots, ...]`` trained parameters. There are no losses: nothing leaves a client in the clear.
    """
    longest_first = sorted(range(len(slots)), key=lambda i: -len(slots[i].places))
    trained = {name: x.new_empty((len(slots), *shape), dtype=model.dtype) for name, shape in model.shapes.items()}
    width = pack_width(model)
    for begin in range(0, len(slots), width):
        chosen = longest_first[begin : begin + width]
        params = _fit_pack(model, starts, [slots[i] for i in chosen], x, y, recipe)
        places = torch.tensor(chosen).to(x.device)
        for name, value in params.items():
            trained[name][places] = value
    return trained


def private_gradients(
    model: Model, starts: Params, slots: Sequence[PrivateSlot], x: Tensor, y: Tensor, how: PrivateSteps, chunk: int
) -> Params:
    """Each slot's noised sum of clipped gradients over all its records, at its start model.

    Args:
        model, starts, slots, x, y: as in ``fit_privately``.
        how: clip and noise.
        chunk: records whose gradients are computed together.
    """
    parts, width = [], pack_width(model)
    for begin in range(0, len(slots), width):
        pack = slots[begin : begin + width]
        params = _starts_of(pack, starts)
        rows = [slot.places[slot.places >= 0] for slot in pack]
        parts.append(_noised_sums(model, params, rows, [slot.noise for slot in pack], x, y, how, chunk))
    return {name: torch.cat([part[name] for part in parts]) for name in model.names}


def _fit_pack(
    model: Model, starts: Params, slots: Sequence[PrivateSlot], x: Tensor, y: Tensor, recipe: Recipe
) -> Params:
    """Train one pack, the longest first: at each step only those that have steps left are stepped."""
    how = recipe.private
    if how is None:
        raise ValueError("this recipe is not private")
    counts = [batches_an_epoch(len(slot.places), recipe.batch_size) for slot in slots]
    steps = [steps_of(len(slot.places), recipe) for slot in slots]
    means = [len(slot.places) / max(count, 1) for slot, count in zip(slots, counts, strict=True)]
    expected = torch.tensor(means).to(x.device, model.dtype)
    batches = [_poisson_batches(slot, count, many) for slot, count, many in zip(slots, counts, steps, strict=True)]
    chunk = recipe.batch_size + math.ceil(3.0 * math.sqrt(recipe.batch_size))
    params = _starts_of(slots, starts)
    velocity = {name: torch.zeros_like(value) for name, value in params.items()}
    for step in range(max(steps)):
        active = sum(many > step for many in steps)
        now = {name: value[:active] for name, value in params.items()}
        rows, sources = [batches[i][step] for i in range(active)], [slot.noise for slot in slots[:active]]
        sums = _noised_sums(model, now, rows, sources, x, y, how, chunk)
        for name, value in now.items():
            change = sums[name] / _like(expected[:active], value) + recipe.l2 * value
            if step > 0:
                change += recipe.momentum * velocity[name][:active]
            velocity[name][:active] = change
            value.sub_(recipe.learning_rate * change)
    return params


def _starts_of(slots: Sequence[PrivateSlot], starts: Params) -> Params:
    """name -> ``[slots, ...]`` each slot's start model."""
    origin = torch.tensor([slot.model for slot in slots])
    return {name: value[origin.to(value.device)] for name, value in starts.items()}


def _poisson_batches(slot: PrivateSlot, count: int, steps: int) -> list[Array]:
    """Rows of every step's batch: each record takes part with probability 1 / ``count``."""
    coins = (slot.coins or slot.noise).random((steps, len(slot.places))) * count < 1.0
    return [slot.places[chosen & (slot.places >= 0)] for chosen in coins]


def _noised_sums(
    model: Model,
    params: Params,
    rows: Sequence[Array],
    sources: Sequence[Noise],
    x: Tensor,
    y: Tensor,
    how: PrivateSteps,
    chunk: int,
) -> Params:
    """Each slot's sum of clipped gradients over its rows, and its noise."""
    sums = {name: torch.zeros_like(value) for name, value in params.items()}
    for begin in range(0, max((len(chosen_rows) for chosen_rows in rows), default=0), chunk):
        reaching = [i for i, chosen_rows in enumerate(rows) if len(chosen_rows) > begin]
        # A lone matrix may take another kernel than a stack of them: packs are at least two wide.
        chosen = reaching if len(reaching) > 1 else reaching * 2
        places = np.full((len(chosen), chunk), -1, dtype=np.int64)
        for at, i in enumerate(chosen):
            part = rows[i][begin : begin + chunk]
            places[at, : len(part)] = part
        filled, picked = (torch.from_numpy(what).to(x.device) for what in (places >= 0, places.clip(min=0).ravel()))
        batch_x = x.index_select(0, picked).view(len(chosen), chunk, -1).to(model.dtype)
        batch_y = y.index_select(0, picked).view(len(chosen), chunk)
        chosen_rows = torch.tensor(chosen).to(x.device)
        own_params = {name: value[chosen_rows] for name, value in params.items()}
        clipped = clipped_sums(model, own_params, batch_x, batch_y, filled, how.clip)
        for name, value in clipped.items():
            sums[name][chosen_rows[: len(reaching)]] += value[: len(reaching)]
    noise = np.stack([source.standard_normal((model.size,)) for source in sources])
    drawn, begin = torch.from_numpy(how.noise_multiplier * how.clip * noise).to(x.device, model.dtype), 0
    for name in model.names:
        many = math.prod(model.shapes[name])
        sums[name] += drawn[:, begin : begin + many].view_as(sums[name])
        begin += many
    return sums


def _like(vector: Tensor, value: Tensor) -> Tensor:
    """``[W]`` as ``[W, 1, ...]``, to go with ``[W, ...]``."""
    return vector.view(-1, *[1] * (value.dim() - 1))
