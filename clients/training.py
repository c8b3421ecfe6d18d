"""Local training of many clients at once."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from palimpsest.clients.ascending import Training, ascending
from palimpsest.clients.clipping import clipped_sum
from palimpsest.clients.local_data import LocalData
from palimpsest.clients.parameters import stack
from palimpsest.clients.private import fit_privately
from palimpsest.simulator.world.models.batches import placed, weigh
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.models.training import Slot, fit, pack_width
from palimpsest.simulator.world.models.workspace import Workspace
from palimpsest.simulator.world.protocols.federation import Block, BlockResult
from palimpsest.simulator.world.protocols.questions import Train
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.seeding import generators
from palimpsest.simulator.world.specs import Recipe

GROUP_BYTES = 2**24
"""Parameters of the clients whose records and orders are held at once."""


class _Kept(threading.local):
    """What a thread keeps from pack to pack, and from round to round."""

    def __init__(self) -> None:
        self.room = Workspace()


_KEPT = _Kept()

SUM_COLUMNS = 4096
"""Parameters whose updates are summed at once: more, in float64, would not stay in the cache."""


def train(data: LocalData, question: Train) -> list[BlockResult]:
    """Train every client of every block; see ``Train``.

    Updates are added up as soon as a pack of clients is trained: they are then still in the core's cache, and no more
    memory is taken than one pack needs, which the next one takes again.
    """
    model = data.model(question.spec)
    starts = stack(model, question.models)
    ordinary = _privately if question.recipe.private else _plainly
    results: list[BlockResult] = []
    for group in _cut(question.blocks, GROUP_BYTES // model.bytes):
        training = (ordinary if group[0].ascent is None else ascending)(data, model, starts, group, question)
        begin = 0
        for pack in _cut(group, pack_width(model)):
            end = begin + sum(len(block.clients) for block in pack)
            results += _results(data, pack, starts, training(slice(begin, end)), question)
            begin = end
    return results


def _results(
    data: LocalData, blocks: Sequence[Block], starts: dict[str, Tensor], trained: dict[str, Tensor], question: Train
) -> Iterator[BlockResult]:
    """What is answered for each block, of its clients' parameters after training."""
    begin = 0
    for block in blocks:
        rows = slice(begin, begin + len(block.clients))
        models = {name: value[rows] for name, value in trained.items()}
        start = {name: value[block.model] for name, value in starts.items()}
        updates, result = _summed(models, start, _weights(data, block, question.recipe), block.update_clip)
        if question.each:
            result = replace(result, each=_each(updates))
        yield replace(result, controls=_controls(data, block, updates, question)) if block.shift else result
        begin = rows.stop


def _plainly(
    data: LocalData, model: Model, starts: dict[str, Tensor], blocks: Sequence[Block], question: Train
) -> Training:
    x, y, begins = data.gather(blocks)
    shifts = {
        name: torch.from_numpy(np.concatenate([block.shift[name] for block in blocks])).to(x.device, model.dtype)
        for name in blocks[0].shift
    }
    slots = _slots(data, blocks, begins, question)

    def some(which: slice) -> dict[str, Tensor]:
        shifts_of = {name: value[which] for name, value in shifts.items()}
        return fit(model, starts, slots[which], x, y, question.recipe, shifts_of, _KEPT.room)

    return some


def _controls(data: LocalData, block: Block, updates: dict[str, Tensor], question: Train) -> Params:
    """Every client's mean gradient over its K steps of rate eta, less its shift: -update / (K eta) - shift."""
    begins = dict.fromkeys(block.clients, 0)
    slots = _slots(data, [block], begins, question)
    steps = np.array([max(1, int((slot.batches >= 0).any(axis=1).sum())) for slot in slots])
    rates = torch.from_numpy(steps * question.recipe.learning_rate)
    return {
        name: -(value.cpu().double() / rates.view(-1, *[1] * (value.dim() - 1))).numpy() - block.shift[name]
        for name, value in updates.items()
    }


def _privately(
    data: LocalData, model: Model, starts: dict[str, Tensor], blocks: Sequence[Block], question: Train
) -> Training:
    x, y, begins = data.gather(blocks)
    slots = data.private_slots(blocks, begins, question.round, "retained")
    return lambda which: fit_privately(model, starts, slots[which], x, y, question.recipe)


def _slots(data: LocalData, blocks: Sequence[Block], begins: Mapping[int, int], question: Train) -> list[Slot]:
    """The local trainings of some blocks, client by client, whose records start at ``begins``."""
    slots = []
    streams = generators(data.seed, [(*b.batches, client, question.round) for b in blocks for client in b.clients])
    for block in blocks:
        data.ask_tombstones(block, "retained")
        sizes = data.population.sizes[list(block.clients)].tolist()
        slots += [
            Slot(
                block.model,
                placed(
                    begins[client],
                    size,
                    block.forget.get(client, ()),
                    question.recipe,
                    next(streams),
                    block.compact,
                ),
            )
            for client, size in zip(block.clients, sizes, strict=True)
        ]
    return slots


def _weights(data: LocalData, block: Block, recipe: Recipe) -> Array:
    """``[clients of the block]`` what each counts for, by what it retains; if private or ascending, by what it had."""
    sizes = data.population.sizes[list(block.clients)]
    counted = recipe.private or block.ascent is not None
    gone = [0 if counted else len(block.forget.get(client, ())) for client in block.clients]
    return weigh(sizes - np.array(gone), recipe)


def _cut(blocks: Sequence[Block], most: int) -> Iterator[list[Block]]:
    """Cut blocks, in order, into groups that do the same, of so many clients at most or of one block."""
    group: list[Block] = []
    clients = 0
    for block in blocks:
        full = clients + len(block.clients) > most
        if group and (full or group[0].ascent != block.ascent):
            yield group
            group, clients = [], 0
        group.append(block)
        clients += len(block.clients)
    if group:
        yield group


def _summed(
    trained: dict[str, Tensor], start: dict[str, Tensor], weights: Array, clip: float
) -> tuple[dict[str, Tensor], BlockResult]:
    """Sum n_k (local - global) over one block alone, in float64: no other block can change its bits.

    The trained parameters become the updates, in place. Where nothing is clipped, that and the sum take some columns
    at a time, so that these are read from memory once.

    Returns:
        The updates, in the memory of ``trained``, and their sum.
    """
    if clip:
        updates = {name: value.sub_(start[name]) for name, value in trained.items()}
        return updates, clipped_sum(updates, weights, clip)
    sums = {}
    for name, value in trained.items():
        scale = torch.from_numpy(weights.astype(np.float64)).to(value.device)
        flat = value.flatten(1), start[name].flatten()
        columns = zip(*(torch.split(part, SUM_COLUMNS, dim=-1) for part in flat), strict=True)
        parts = [scale @ _double(some.sub_(begun)) for some, begun in columns]
        sums[name] = torch.cat(parts).view(value.shape[1:]).cpu().numpy()
    return trained, BlockResult(sums, float(weights.sum()), {"clients": float(len(weights))})


def _double(value: Tensor) -> Tensor:
    """A copy in float64, valid until the next one."""
    return _KEPT.room.take("sums", tuple(value.shape), torch.float64, value.device).copy_(value)


def _each(updates: dict[str, Tensor]) -> Params:
    """Local minus global model of every client of a block, copied out of what the next pack is trained in."""
    return {name: np.array(value.cpu().numpy()) for name, value in updates.items()}
