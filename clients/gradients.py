"""Gradients of the loss over the records of many clients."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from palimpsest.clients.gradient_sums import gradient_sums
from palimpsest.clients.local_data import LocalData
from palimpsest.clients.parameters import stack
from palimpsest.clients.private import private_gradients
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.federation import Block, BlockResult
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.specs import PrivateSteps

GRADIENT_PACK = 16
"""Models whose full-batch gradients are computed together."""

PRIVATE_CHUNK = 32
"""Records of each client whose clipped gradients are computed together."""


def gradient(data: LocalData, question: Gradient) -> list[BlockResult]:
    """Sums of loss gradients over each block; see ``Gradient``."""
    if question.private is not None:
        return _private_gradient(data, question, question.private)
    model, blocks, of = data.model(question.spec), question.blocks, question.of
    stacked = stack(model, question.models)
    results: dict[int, BlockResult] = {}
    for group in _of_same_records(blocks, of):
        first = blocks[group[0]]
        if of == "forgotten":
            rows = data.forgotten_rows(first)
            chunks: Iterable[tuple[Tensor, Tensor]] = data.reader.read(model, rows)
            used = torch.ones(1, len(rows), dtype=torch.bool, device=model.device)
        else:
            chunks = data.reader.read_clients(model, first.clients)
            used = torch.from_numpy(np.stack([data.kept_mask(blocks[i]) for i in group])).to(model.device)
        origin = torch.tensor([blocks[i].model for i in group]).to(model.device)
        params = {name: value[origin] for name, value in stacked.items()}
        sums = gradient_sums(model, params, chunks, used, question.loss)
        if of == "forgotten" and question.spec.task == "classification":
            correct = _correct(model, question.models[first.model], data.reader.read(model, rows))
            sums = [replace(result, metrics={**result.metrics, "correct": correct}) for result in sums]
        results.update(zip(group, sums, strict=True))
    return [results[i] for i in range(len(blocks))]


def _private_gradient(data: LocalData, question: Gradient, how: PrivateSteps) -> list[BlockResult]:
    """Sums of clipped gradients, noised by each client."""
    if question.loss != "training":
        raise ValueError("private gradients are of the training loss")
    model, blocks, of = data.model(question.spec), question.blocks, question.of
    x, y, begins = data.gather(blocks)
    slots = data.private_slots(blocks, begins, question.step, of)
    noised = private_gradients(model, stack(model, question.models), slots, x, y, how, PRIVATE_CHUNK)
    results: list[BlockResult] = []
    begin = 0
    for block in blocks:
        rows = slice(begin, begin + len(block.clients))
        sums = {name: value[rows].double().sum(0).cpu().numpy() for name, value in noised.items()}
        asked = sum(len(block.forget[client]) for client in block.clients) if of == "forgotten" else 0
        weight = asked or int(data.population.sizes[list(block.clients)].sum())
        results.append(BlockResult(sums, float(weight)))
        begin = rows.stop
    return results


def _of_same_records(blocks: Sequence[Block], of: str) -> Iterator[list[int]]:
    """Group blocks whose gradients are sums over the same clients' records, at most ``GRADIENT_PACK`` together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, block in enumerate(blocks):
        groups.setdefault(block.clients if of == "retained" else (i,), []).append(i)
    for group in groups.values():
        for begin in range(0, len(group), GRADIENT_PACK):
            yield group[begin : begin + GRADIENT_PACK]


def _correct(model: Model, params: Params, chunks: Iterable[tuple[Tensor, Tensor]]) -> float:
    """How many records' labels have the highest score."""
    tensors = model.tensors(params)
    with torch.no_grad():
        return float(sum(int((model.head(tensors, x).argmax(-1) == y).sum()) for x, y in chunks))
