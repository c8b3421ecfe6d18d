"""The work that every contestant does: rounds of federated averaging over clients of 50 records."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from torch import Tensor

from palimpsest.server.blocks import cohort
from palimpsest.server.setup import Lineage, Setup, TrainingPlan
from palimpsest.simulator.bench.workloads import GREY, OUTPUTS, spec_of
from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.models.batches import batches_of
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Frozen, ModelKind, Recipe, Schema

RECORDS = 50
BLOCK = 32
"""Clients in a block at most: the scenario's default, and less where all hosts would not have one."""
RECIPE = Recipe(batch_size=10, learning_rate=0.05)


class Work(Frozen):
    """One line of the table.

    Attributes:
        kind: a name in the table of models, whose defaults it has (the mlp: 784-64-10).
        population: how many clients there are.
        cohort: how many train in a round.
        rounds: how many are measured; one more comes before them, unmeasured.
        directory: of the population's arrays.
    """

    kind: ModelKind
    population: int
    cohort: int
    rounds: int
    directory: Path

    @property
    def setup(self) -> Setup:
        """The same work as Palimpsest's server knows it."""
        plan = TrainingPlan(algorithm="fedavg", rounds=self.rounds + 1, clients_per_round=self.cohort, recipe=RECIPE)
        block = min(BLOCK, -(-self.cohort // (os.cpu_count() or 1)))  # one block would be one host's work
        return Setup(spec_of(self.kind), plan, np.full(self.population, RECORDS), block_size=block, seed=0)

    @property
    def model(self) -> Model:
        """The architecture."""
        return model_of(spec_of(self.kind))

    def start(self) -> Params:
        """The first model."""
        return self.model.init(generator(0, "init"))

    def clients(self, round: int) -> tuple[int, ...]:
        """Who trains in a round."""
        return cohort(self.setup, Lineage(branch=0, forget={}), round)


@dataclass
class Measured:
    """What one contestant needed for one piece of work.

    Attributes:
        start: seconds until it could train.
        memory: peak of resident memory over its processes, MiB.
        rounds: seconds of each measured round.
        cpu: processor time of each, of all its processes and of the one that asks them, in seconds.
        first: the model after the first round of all.
    """

    start: float
    memory: float
    rounds: list[float]
    cpu: list[float]
    first: Params


class Contestant(Protocol):
    """One that is started once and then asked for one round at a time.

    Attributes:
        start: seconds that starting took.
        processes: ids of the processes that it started.
    """

    start: float
    processes: tuple[int, ...]

    def rounds(self, work: Work) -> Iterator[Params]:
        """Yield the model after each round; a round is computed when it is asked for."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...


def children() -> set[int]:
    """Ids of the processes that this one has started."""
    return {process.pid for process in psutil.Process().children()}


def batches(client: int, round: int) -> Array:
    """``[5, 10]`` the records of each of a client's steps in a round: the same for every contestant."""
    return batches_of(RECORDS, (), RECIPE, 0, ("batches", client, round), compact=False)


@lru_cache
def opened(directory: Path) -> tuple[Tensor, Tensor]:
    """Records and labels of the population in a directory, as the loops read them."""
    population = Population.open(directory)
    return torch.from_numpy(population.train_x), torch.from_numpy(population.train_y)


def make_population(clients: int, directory: Path, shape: tuple[int, ...] = GREY) -> Path:
    """Write a population of random records; those of client k depend on k alone."""
    rng = np.random.default_rng(0)
    form = Schema(name="random", task="classification", shape=shape, outputs=OUTPUTS)
    x = rng.random((clients * RECORDS, form.width), dtype=np.float32)
    y = rng.integers(0, OUTPUTS, clients * RECORDS)
    empty: dict[str, Any] = {f"{part}_x": x[:0] for part in ("public", "test")}
    empty |= {f"{part}_y": y[:0] for part in ("public", "test")}
    population = Population(
        schema=form,
        train_x=x,
        train_y=y,
        offsets=np.arange(clients + 1) * RECORDS,
        box_low=np.zeros(form.width),
        box_high=np.ones(form.width),
        preprocessing={},
        **empty,
    )
    return population.save(directory / f"random-{clients}-{'x'.join(map(str, shape))}")
