"""A host: many virtual clients behind one Flower SuperNode.

Everything here is a pure function of (models, blocks, round, seed), except for the tombstones, which only ever refuse.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from palimpsest.clients.clipping import clipped_sum
from palimpsest.clients.gradient_sums import gradient_sums, hessian_times
from palimpsest.clients.private import PrivateSlot, fit_privately, private_gradients
from palimpsest.clients.reader import Reader
from palimpsest.clients.tombstones import Tombstones
from palimpsest.simulator.world.models.batches import drawn, weigh
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.models.training import Slot, fit
from palimpsest.simulator.world.privacy.noise import noise_of
from palimpsest.simulator.world.protocols.federation import Block, BlockResult, Factor, Loss, Statistics
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.seeding import generators
from palimpsest.simulator.world.specs import ModelSpec, PrivateSteps, Recipe

GRADIENT_PACK = 16
"""Models whose full-batch gradients are computed together."""

PRIVATE_CHUNK = 32
"""Records of each client whose clipped gradients are computed together."""
GROUP_BYTES = 2**24
"""Parameters of clients' models held at once while they are trained: more would cost page faults, and memory."""

SUM_COLUMNS = 4096
"""Parameters whose updates are summed at once: more, in float64, would not stay in the cache."""


class Host:
    """Serves the clients of one population.

    Args:
        reader: of the clients' data.
        seed: the scenario's seed.
        arm: whose tombstones bind.
        tombstones: what the clients have deleted.
        device: where it trains and takes gradients; ridge statistics, in float64, are computed on the CPU.
    """

    def __init__(self, reader: Reader, seed: int, arm: str, tombstones: Tombstones, device: str = "cpu") -> None:
        self._reader = reader
        self._population = reader.population
        self._seed = seed
        self._arm = arm
        self._tombstones = tombstones
        self._device = device

    def train(
        self,
        spec: ModelSpec,
        models: Sequence[Params],
        blocks: Sequence[Block],
        round: int,
        recipe: Recipe,
        each: bool = False,
    ) -> list[BlockResult]:
        """Train every client of every block; see ``Federation.train``."""
        model = model_of(spec, self._device)
        starts = _stack(model, models)
        fit_slots = self._fit_privately if recipe.private else self._fit
        results: list[BlockResult] = []
        for group in _in_memory(model, blocks):
            trained = fit_slots(model, starts, group, round, recipe)
            begin = 0
            for block in group:
                own = slice(begin, begin + len(block.clients))
                updates = {name: value[own] - starts[name][block.model] for name, value in trained.items()}
                weights = self._weights(block, recipe)
                clip = block.update_clip
                result = clipped_sum(updates, weights, clip) if clip else _weighted_sum(updates, weights)
                results.append(replace(result, each=_each(updates)) if each else result)
                begin = own.stop
        return results

    def _fit(
        self, model: Model, starts: dict[str, Tensor], blocks: Sequence[Block], round: int, recipe: Recipe
    ) -> dict[str, Tensor]:
        x, y, begins = self._gather(blocks)
        return fit(model, starts, self._slots(blocks, begins, round, recipe), x, y, recipe)

    def _fit_privately(
        self, model: Model, starts: dict[str, Tensor], blocks: Sequence[Block], round: int, recipe: Recipe
    ) -> dict[str, Tensor]:
        x, y, begins = self._gather(blocks)
        return fit_privately(model, starts, self._private_slots(blocks, begins, round, "retained"), x, y, recipe)

    def _gather(self, blocks: Sequence[Block]) -> tuple[Tensor, Tensor, dict[int, int]]:
        """Tensors that hold the records of these blocks' clients, and by client where its first one is."""
        x, y, begins = self._population.gather([client for block in blocks for client in block.clients])
        return torch.from_numpy(x).to(self._device), torch.from_numpy(y).to(self._device), begins

    def _slots(self, blocks: Sequence[Block], begins: Mapping[int, int], round: int, recipe: Recipe) -> list[Slot]:
        """The local trainings of some blocks, client by client, whose records start at ``begins``."""
        slots = []
        streams = generators(self._seed, [(*b.batches, client, round) for b in blocks for client in b.clients])
        for block in blocks:
            self._ask_tombstones(block, "retained")
            for client in block.clients:
                size, forgotten = int(self._population.sizes[client]), block.forget.get(client, ())
                local = drawn(size, forgotten, recipe, next(streams), block.compact)
                rows = local + begins[client]
                slots.append(Slot(block.model, np.where(local < 0, -1, rows)))
        return slots

    def _weights(self, block: Block, recipe: Recipe) -> Array:
        """``[clients of the block]`` what each counts for, by what it retains; under privacy no deletion changes it."""
        sizes = self._population.sizes[list(block.clients)]
        gone = [0 if recipe.private else len(block.forget.get(client, ())) for client in block.clients]
        return weigh(sizes - np.array(gone), recipe)

    def _private_gradient(
        self, model: Model, starts: dict[str, Tensor], blocks: Sequence[Block], of: str, how: PrivateSteps, step: int
    ) -> list[BlockResult]:
        """Sums of clipped gradients, noised by each client."""
        x, y, begins = self._gather(blocks)
        slots = self._private_slots(blocks, begins, step, of)
        noised = private_gradients(model, starts, slots, x, y, how, PRIVATE_CHUNK)
        results: list[BlockResult] = []
        begin = 0
        for block in blocks:
            own = slice(begin, begin + len(block.clients))
            sums = {name: value[own].double().sum(0).cpu().numpy() for name, value in noised.items()}
            asked = sum(len(block.forget[client]) for client in block.clients) if of == "forgotten" else 0
            weight = asked or int(self._population.sizes[list(block.clients)].sum())
            results.append(BlockResult(sums, float(weight)))
            begin = own.stop
        return results

    def _private_slots(
        self, blocks: Sequence[Block], begins: Mapping[int, int], round: int, of: str
    ) -> list[PrivateSlot]:
        """A slot for each client of each block: its records, the deleted ones (or, ``forgotten``, all others) null."""
        slots = []
        for block in blocks:
            self._ask_tombstones(block, of)
            for client in block.clients:
                places = begins[client] + np.arange(self._population.sizes[client], dtype=np.int64)
                named = np.zeros(len(places), dtype=bool)
                named[list(block.forget.get(client, ()))] = True
                places[named if of == "retained" else ~named] = -1
                slots.append(PrivateSlot(block.model, places, noise_of(self._seed, block.noise, client, round)))
        return slots

    def gradient(
        self,
        spec: ModelSpec,
        models: Sequence[Params],
        blocks: Sequence[Block],
        of: str,
        loss: Loss = "training",
        private: PrivateSteps | None = None,
        step: int = 0,
    ) -> list[BlockResult]:
        """Sums of loss gradients over each block; see ``Federation.gradient``."""
        model = model_of(spec, self._device)
        stacked = _stack(model, models)
        if private is not None:
            if loss != "training":
                raise ValueError("private gradients are of the training loss")
            return self._private_gradient(model, stacked, blocks, of, private, step)
        results: dict[int, BlockResult] = {}
        for group in _of_same_records(blocks, of):
            first = blocks[group[0]]
            if of == "forgotten":
                rows = self._forgotten_rows(first)
                chunks: Iterable[tuple[Tensor, Tensor]] = self._reader.read(model, rows)
                used = torch.ones(1, len(rows), dtype=torch.bool, device=model.device)
            else:
                chunks = self._reader.read_clients(model, first.clients)
                used = torch.from_numpy(np.stack([self._kept_mask(blocks[i]) for i in group])).to(model.device)
            origin = torch.tensor([blocks[i].model for i in group]).to(model.device)
            params = {name: value[origin] for name, value in stacked.items()}
            sums = gradient_sums(model, params, chunks, used, loss)
            if of == "forgotten" and spec.task == "classification":
                correct = _correct(model, models[first.model], self._reader.read(model, rows))
                sums = [replace(result, metrics={**result.metrics, "correct": correct}) for result in sums]
            results.update(zip(group, sums, strict=True))
        return [results[i] for i in range(len(blocks))]

    def hessian(
        self, spec: ModelSpec, models: Sequence[Params], vectors: Sequence[Params], blocks: Sequence[Block]
    ) -> list[BlockResult]:
        """Sums of Hessian-vector products over each block; see ``Federation.hessian``."""
        model = model_of(spec, self._device)
        results = []
        for block in blocks:
            used, seen = torch.from_numpy(self._kept_mask(block)).to(model.device), 0
            params, vector = model.tensors(models[block.model]), model.tensors(vectors[block.model])
            sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in params.items()}
            for x, y in self._reader.read_clients(model, block.clients):
                product = hessian_times(model, params, vector, x, y, used[seen : seen + len(y)])
                for name, value in product.items():
                    sums[name] += value.double()
                seen += len(y)
            results.append(BlockResult({name: v.cpu().numpy() for name, v in sums.items()}, float(used.sum())))
        return results

    def statistics(self, spec: ModelSpec, blocks: Sequence[Block]) -> list[Statistics]:
        """Ridge statistics of what each block retains; see ``Federation.statistics``.

        Clients that forget something are added up apart from the others: of blocks in a row that differ by what the
        same clients forget, the others are read once.
        """
        model, results = model_of(spec), []
        apart: tuple[object, Statistics] | None = None
        for block in blocks:
            used, forgetful = self._kept_mask(block), self._forgetful_mask(block)
            key = block.clients, forgetful.tobytes()
            if apart is None or apart[0] != key:
                apart = key, self._statistics_at(model, block.clients, ~forgetful)
            total = apart[1]
            if forgetful.any():
                total = total.plus(self._statistics_at(model, block.clients, forgetful & used))
            results.append(total)
        return results

    def _statistics_at(self, model: Model, clients: tuple[int, ...], used: Array) -> Statistics:
        """Of the records of some clients that a mask names."""
        outputs, width = model.shapes["weight"]
        gram, moment, seen = np.zeros((width + 1, width + 1)), np.zeros((width + 1, outputs)), 0
        for x, y in self._reader.read_clients(model, clients):
            mask = torch.from_numpy(used[seen : seen + len(x)])
            seen += len(x)
            if mask.any():
                rows = _with_intercept(x[mask].double()).numpy()
                gram += rows.T @ rows  # NumPy sees that this is symmetric, and does half the work
                moment += rows.T @ _targets(model.spec, y[mask]).numpy()
        return Statistics(gram, moment, int(used.sum()))

    def factors(self, spec: ModelSpec, blocks: Sequence[Block]) -> list[Factor]:
        """Ridge statistics of what each block forgets; see ``Federation.factors``."""
        model = model_of(spec)
        results = []
        for block in blocks:
            parts = list(self._reader.read(model, self._forgotten_rows(block)))
            if not parts:  # clients without a record
                width, outputs = model.shapes["weight"][1] + 1, model.shapes["weight"][0]
                results.append(Factor(np.zeros((0, width)), np.zeros((width, outputs)), 0))
                continue
            rows = torch.cat([_with_intercept(x.double()) for x, _ in parts])
            moment = rows.T @ torch.cat([_targets(spec, y) for _, y in parts])
            # The triangular factor says what X^T X says and no more; of one record it is the record, up to sign.
            root = torch.linalg.qr(rows, mode="r").R if len(rows) > 1 else rows
            results.append(Factor(root.numpy(), moment.numpy(), len(rows)))
        return results

    def _ask_tombstones(self, block: Block, of: str) -> None:
        self._tombstones.check(self._arm, block.branch, block.clients, block.forget, of)

    def _kept_mask(self, block: Block) -> Array:
        """``[records of the block]`` whether each is retained, in the order of ``Reader.rows_of``."""
        self._ask_tombstones(block, "retained")
        mask = np.ones(int(self._population.sizes[list(block.clients)].sum()), dtype=bool)
        begin = 0
        for client in block.clients:
            mask[[begin + record for record in block.forget.get(client, ())]] = False
            begin += int(self._population.sizes[client])
        return mask

    def _forgetful_mask(self, block: Block) -> Array:
        """``[records of the block]`` whether each is of a client that forgets something."""
        forgets = [bool(block.forget.get(client)) for client in block.clients]
        return np.repeat(forgets, self._population.sizes[list(block.clients)])

    def _forgotten_rows(self, block: Block) -> Array:
        self._ask_tombstones(block, "forgotten")
        return np.concatenate([self._population.rows(client, block.forget[client]) for client in block.clients])


def _stack(model: Model, models: Sequence[Params]) -> dict[str, Tensor]:
    """name -> ``[models, ...]``."""
    stacked = {name: torch.from_numpy(np.stack([params[name] for params in models])) for name in model.names}
    return {name: value.to(model.device, model.dtype) for name, value in stacked.items()}


def _in_memory(model: Model, blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Cut blocks, in order, into groups whose trained models fit into ``GROUP_BYTES``; at least one block each."""
    group: list[Block] = []
    clients = 0
    for block in blocks:
        if group and (clients + len(block.clients)) * model.bytes > GROUP_BYTES:
            yield group
            group, clients = [], 0
        group.append(block)
        clients += len(block.clients)
    if group:
        yield group


def _weighted_sum(updates: dict[str, Tensor], weights: Array) -> BlockResult:
    """Sum n_k (local - global) over one block alone, in float64: no other block can change its bits."""
    sums = {}
    for name, update in updates.items():
        scale = torch.from_numpy(weights.astype(np.float64)).to(update.device)
        columns = torch.split(update.flatten(1), SUM_COLUMNS, dim=1)
        sums[name] = torch.cat([scale @ some.double() for some in columns]).view(update.shape[1:]).cpu().numpy()
    return BlockResult(sums, float(weights.sum()), {"clients": float(len(weights))})


def _each(updates: dict[str, Tensor]) -> Params:
    """Local minus global model of every client of a block."""
    return {name: value.cpu().numpy() for name, value in updates.items()}


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


def _with_intercept(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def _targets(spec: ModelSpec, y: Tensor) -> Tensor:
    """``[n, Q]`` float64: one-hot classes, or the targets."""
    if spec.task == "regression":
        return y.double().unsqueeze(1)
    return torch.nn.functional.one_hot(y, spec.outputs).double()
