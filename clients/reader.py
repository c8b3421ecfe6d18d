"""Reading the clients' records, as the features that a model sees."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import ModelSpec, Precision

CHUNK = 512
"""Rows of a full-batch product: sums are cut at fixed places, so that their bits depend on the block alone."""

CACHE_BYTES = 2**30
"""What a process keeps in memory of its clients' features."""


class Reader:
    """Reads one population; keeps in memory what full-batch optimisers read again and again."""

    def __init__(self, population: AbstractPopulation) -> None:
        self.population = population
        self._cache: dict[tuple[ModelSpec, torch.device, Precision, tuple[int, ...]], list[tuple[Tensor, Tensor]]] = {}
        self._cached_bytes = 0

    def rows_of(self, clients: tuple[int, ...]) -> Array:
        """Rows of all records of some clients, before any deletion."""
        return np.concatenate([self.population.rows(client) for client in clients])

    def read(self, model: Model, rows: Array) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the features and labels of rows, ``CHUNK`` at a time, on the model's device."""
        for begin in range(0, len(rows), CHUNK):
            taken = self.population.take(rows[begin : begin + CHUNK])
            x, y = torch.from_numpy(taken[0]).to(model.device, model.dtype), torch.from_numpy(taken[1]).to(model.device)
            bound = model.spec.target_clip if model.spec.task == "regression" else 0.0
            yield model.embed(x), y.clamp(-bound, bound) if bound else y

    def read_clients(self, model: Model, clients: tuple[int, ...]) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield the same for all records of some clients, from memory where ``CACHE_BYTES`` allows."""
        rows = self.rows_of(clients)
        size = len(rows) * model.inputs * model.dtype.itemsize
        key = (model.spec, model.device, model.precision, clients)
        if key not in self._cache and self._cached_bytes + size <= CACHE_BYTES:
            self._cache[key] = list(self.read(model, rows))
            self._cached_bytes += size
        return self._cache[key] if key in self._cache else self.read(model, rows)
