"""How long one local training takes on this machine: tried out, for a second or so, on some clients and some steps."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from palimpsest.clients.host import Host
from palimpsest.clients.reader import Reader
from palimpsest.clients.tombstones import Tombstones
from palimpsest.server.blocks import cut
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.planning.plan import Prefix
from palimpsest.simulator.planning.setup import setup_of
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.questions import Train
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Precision, Recipe

Clock: TypeAlias = Callable[[], float]
"""Seconds since some moment."""

ENOUGH = 1.0
"""Seconds after which nothing larger is tried out; the few steps from which all is scaled up may take longer."""
_CLIENTS = 64
"""Clients on which the pace is tried out at most."""
_GROWTH = 4
"""By how much one trial is larger than the one before."""
_SHOWS = 1.5
"""How many times the first step's seconds more steps take, where they can be told from what an update takes once."""
_REPEATS = 3
"""Of a trial of whole updates, where there is time for them."""


@dataclass(frozen=True)
class Trial:
    """Some clients' local training of some steps.

    Attributes:
        clients: how many.
        steps: of each; 0: as many as the scenario says.
        seconds: that it took.
    """

    clients: int
    steps: int
    seconds: float


def seconds_per_update(
    prefix: Prefix,
    population: AbstractPopulation,
    clock: Clock = time.thread_time,
    precision: Precision = "highest",
) -> float | None:
    """What one local training takes, all cores working; None but for fedavg.

    Whole trainings of 64 clients where they take less than a second; else fewer clients and steps, scaled up by the
    number of steps.

    Args:
        prefix: the training.
        population: its data.
        clock: by which trials are timed; that of this thread's work alone, as other programs may keep the cores busy.
        precision: of the hosts' computing.
    """
    if prefix.setting.training.algorithm != "fedavg":
        return None
    setup = setup_of(prefix.setting, population, prefix.entropy)
    tried = np.linspace(0, population.clients - 1, num=min(_CLIENTS, population.clients)).astype(int)
    wanted = float(steps_of(population.sizes[tried], setup.plan.recipe).mean())
    with one_thread():
        trials = _trials(_Rehearsal(setup, population, prefix.entropy, clock, precision), tried, wanted)
    return extrapolated(trials, wanted) / (os.cpu_count() or 1)


def steps_of(sizes: Array, recipe: Recipe) -> Array:
    """``[clients]`` steps of a local training of clients with so many records."""
    if recipe.local_steps:
        return np.full(len(sizes), recipe.local_steps)
    return recipe.local_epochs * np.ceil(sizes / recipe.batch_size)


def extrapolated(trials: Sequence[Trial], wanted: float) -> float:
    """Seconds of a client's local training of so many steps, on one core.

    Args:
        trials: at least one, in the order in which they were made.
        wanted: steps of a client in the mean.
    """
    last = trials[-1]
    alike = [trial for trial in trials if (trial.clients, trial.steps) == (last.clients, last.steps)]
    least = min(trial.seconds for trial in alike)
    if not last.steps:
        return least / last.clients
    fewer = [trial for trial in trials if trial.clients == last.clients and trial.steps < last.steps]
    if not fewer:  # a client takes no second step
        return least / last.clients * wanted / last.steps
    before = fewer[-1]
    slope = max(0.0, (least - before.seconds) / (last.steps - before.steps))
    return (least + slope * (wanted - last.steps)) / last.clients


class _Rehearsal:
    """Local trainings that lead to nothing, timed."""

    def __init__(
        self, setup: Setup, population: AbstractPopulation, entropy: int, clock: Clock, precision: Precision
    ) -> None:
        self._setup = setup
        self._host = Host(Reader(population), entropy, "estimate", Tombstones(), precision=precision)
        self._start = model_of(setup.spec).init(generator(entropy, "init"))
        self._clock = clock

    def trial(self, clients: Array, steps: int) -> Trial:
        """Train so many steps; 0: as many as the scenario says."""
        recipe = self._setup.plan.recipe
        recipe = recipe.model_copy(update={"local_steps": steps}) if steps else recipe
        lineage = Lineage(branch=0, forget={})
        [block] = cut(replace(self._setup, block_size=_CLIENTS), lineage, 0, clients.tolist())
        began = self._clock()
        self._host.ask(Train(self._setup.spec, [block], [self._start], 0, recipe))
        return Trial(len(clients), steps, self._clock() - began)


def _trials(rehearsal: _Rehearsal, tried: Array, wanted: float) -> list[Trial]:
    """Ever larger trials, until whole updates have been tried or the next trial would take too long.

    The first step that a process takes with a network is many times as slow as those that follow, and does not count.
    """
    rehearsal.trial(tried[:2], 1)
    trials = [rehearsal.trial(tried[:2], 1)]
    for clients, steps in [*_grown(len(tried), wanted), *[(len(tried), 0)] * _REPEATS]:
        last = trials[-1]
        larger = clients * (steps or wanted) / (last.clients * (last.steps or wanted))
        spent = sum(trial.seconds for trial in trials)
        if spent + larger * last.seconds > ENOUGH:
            break
        trials.append(rehearsal.trial(tried[:clients], steps))
    return trials + _further(rehearsal, tried, wanted, trials[-1]) if trials[-1].steps == 1 else trials


def _further(rehearsal: _Rehearsal, tried: Array, wanted: float, one: Trial) -> list[Trial]:
    """Trials of more steps of the same clients, until the steps show beside what an update takes once."""
    trials, steps = [one], 2
    while trials[-1].seconds < _SHOWS * one.seconds and (steps == 2 or steps < wanted) and wanted > 1.0:
        trials.append(rehearsal.trial(tried[: one.clients], steps))
        steps *= _GROWTH
    return trials[1:]


def _grown(clients: int, wanted: float) -> list[tuple[int, int]]:
    """Clients and steps of each trial between the first and the whole: first more clients, then more steps."""
    sizes, tried, steps = [], 2, 1
    while tried < clients:
        tried = min(_GROWTH * tried, clients)
        sizes.append((tried, 1))
    while (steps := _GROWTH * steps) < wanted:
        sizes.append((clients, steps))
    return sizes
