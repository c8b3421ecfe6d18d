"""Answers are added up as they come: what the server of a round holds does not grow with the cohort."""

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.server.algorithms import fedavg, fedsgd, lbfgs
from palimpsest.server.blocks import add_up, everyone
from palimpsest.server.setup import Lineage, Setup, TrainingPlan
from palimpsest.simulator.federation import federation
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import SOFTMAX, Bench
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.federation import Answer, Federation, Question
from palimpsest.simulator.world.protocols.questions import Train
from palimpsest.simulator.world.records import Forget
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Recipe

POPULATION = digits_population(clients=12, records=240)
RECIPE = Recipe(batch_size=4, learning_rate=0.1)
ALGORITHMS = {"fedavg": fedavg.rounds, "fedsgd": fedsgd.rounds, "lbfgs": lbfgs.rounds}


@dataclass
class Counted:
    """Clients; with each answer that is taken goes down how many are held by anybody."""

    inner: Federation
    held: list[int] = field(default_factory=list)
    given: list["weakref.ref[Any]"] = field(default_factory=list)

    def ask(self, question: Question[Answer]) -> list[Answer]:
        return list(self.stream(question))

    def stream(self, question: Question[Answer]) -> Iterator[Answer]:
        for answer in self.inner.stream(question):
            self.given.append(weakref.ref(answer))
            self.held.append(sum(one() is not None for one in self.given))
            yield answer

    def tombstone(self, forget: Mapping[int, Forget]) -> None:
        self.inner.tombstone(forget)

    def readmit(self, branch: int, forget: Forget) -> None:
        self.inner.readmit(branch, forget)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_round_holds_a_few_answers_whatever_its_cohort(
    algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation, "PORTION_BYTES", 1)
    plan = TrainingPlan(algorithm=algorithm, rounds=1, recipe=RECIPE, gradient_norm=1e3)
    bench = Bench(POPULATION, tmp_path)
    setup, clients = Setup(SOFTMAX, plan, POPULATION.sizes, block_size=1), Counted(bench.federation())
    start = model_of(SOFTMAX).init(generator(0, "init"))
    list(ALGORITHMS[algorithm](setup, [Lineage(branch=0, forget={})], [start], clients))
    assert len(clients.held) >= len(POPULATION.sizes)
    assert max(clients.held) <= 3  # what is taken, what is added, and what the portion holds


def test_answers_that_stand_in_a_message_are_not_added_to(tmp_path: Path) -> None:
    bench = Bench(POPULATION, tmp_path)
    setup = Setup(SOFTMAX, bench.plan, POPULATION.sizes, block_size=4)
    blocks = everyone(setup, [Lineage(branch=0, forget={})])
    model = model_of(SOFTMAX).init(generator(0, "init"))
    results = bench.federation().ask(Train(SOFTMAX, blocks, [model], 0, RECIPE))
    before = [result.sums["weight"].copy() for result in results]
    [total] = add_up(blocks, iter(results), 1)
    assert total is not None
    np.testing.assert_array_equal(total.sums["weight"], (before[0] + before[1]) + before[2])
    assert all(np.array_equal(result.sums["weight"], old) for result, old in zip(results, before, strict=True))


def test_a_portion_has_work_for_every_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "PORTION_BYTES", 1)
    bench = Bench(POPULATION, tmp_path, grid=SerialGrid(3))
    setup = Setup(SOFTMAX, bench.plan, POPULATION.sizes, block_size=2)
    blocks = everyone(setup, [Lineage(branch=0, forget={})])
    model = model_of(SOFTMAX).init(generator(0, "init"))
    asked: list[int] = []
    clients = bench.federation()
    exchange = clients._exchange
    monkeypatch.setattr(clients, "_exchange", lambda kind, calls: (asked.append(len(calls)), exchange(kind, calls))[1])
    clients.ask(Train(SOFTMAX, blocks, [model], 0, RECIPE))
    assert asked[1:] == [3, 3]
