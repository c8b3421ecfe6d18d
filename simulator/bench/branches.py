"""Fifty alternative deletions, each retrained from scratch, beside one: what packing branches together is worth."""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from palimpsest.server.history import History
from palimpsest.simulator.bench.palimpsest_hosts import PalimpsestHosts
from palimpsest.simulator.bench.work import Work, make_population
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import DeletionRequest

BRANCHES, CLIENTS, COHORT, ROUNDS = 50, 100, 20, 20
REPEATS = 5


@dataclass(frozen=True)
class Branches:
    """Medians over repeats in turn.

    Attributes:
        one, all: seconds of one retraining, and of all of them together.
        updates: client updates a second of all together.
        steady: the same of ordinary rounds of 1,000 clients, as ``bench`` measures them.
    """

    one: float
    all: float
    updates: float
    steady: float

    def __str__(self) -> str:
        return (
            f"{BRANCHES} retrainings of {ROUNDS} rounds of {COHORT} clients (softmax): {self.all:.2f} s, "
            f"{self.all / self.one:.1f} times one ({self.one:.2f} s); {self.updates:,.0f} updates/s, "
            f"{self.updates / self.steady:.2f} of the {self.steady:,.0f} of rounds of 1,000 clients"
        )


def measure(hosts: int, console: Console) -> Branches:
    """Retrain one branch, all branches, and train rounds of 1,000 clients, in turn."""
    palimpsest = PalimpsestHosts(hosts)
    ones, alls, steady = [], [], []
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        few = _work(directory, CLIENTS, COHORT, ROUNDS - 1)
        rounds = palimpsest.rounds(_work(directory, 1000, 1000, REPEATS))
        next(rounds)
        for repeat in range(REPEATS + 1):
            alone, all_ = (_retrain(palimpsest, few, branches) for branches in (1, BRANCHES))
            if repeat == 0:
                continue
            ones.append(alone)
            alls.append(all_)
            began = time.perf_counter()
            next(rounds)
            steady.append(1000 / (time.perf_counter() - began))
            console.print(f"one {alone:.2f} s, {BRANCHES} {all_:.2f} s, rounds of 1,000: {steady[-1]:,.0f} updates/s")
        palimpsest.close()
    whole = statistics.median(alls)
    return Branches(statistics.median(ones), whole, BRANCHES * ROUNDS * COHORT / whole, statistics.median(steady))


def _work(directory: Path, population: int, cohort: int, rounds: int) -> Work:
    where = make_population(population, directory)
    return Work(kind="softmax", population=population, cohort=cohort, rounds=rounds, directory=where)


def _retrain(palimpsest: PalimpsestHosts, work: Work, branches: int) -> float:
    """Seconds to retrain so many branches, each without one record of another client."""
    history = History.of(work.setup, palimpsest.federation(work))
    requests = [DeletionRequest(i, ROUNDS, "record", {i: (0,)}) for i in range(branches)]
    cases = [UnlearningCase(r.index + 1, r, r.forget, ROUNDS, work.start()) for r in requests]
    began = time.perf_counter()
    for _ in history.retrainer.retrain(cases, "independent"):
        pass
    return time.perf_counter() - began
