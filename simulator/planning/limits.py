"""Whether a scenario fits this machine: refused with the key that is too large, before it takes memory or time."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from palimpsest.simulator.planning.plan import Plan, Prefix
from palimpsest.simulator.planning.plan import plan as plan_of
from palimpsest.simulator.planning.setup import model_spec
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.scenario.sections import Setting, TrainingConfig
from palimpsest.simulator.world import machine
from palimpsest.simulator.world.data.build import load_population
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.files import cache_directory
from palimpsest.simulator.world.models.batches import fillable
from palimpsest.simulator.world.models.model import model_of

_LIBRARIES = 550_000_000
"""Bytes of a process with torch, Flower and Ray."""
_OF_ATTACKS, _OF_RAY, _OF_MLFLOW = 350_000_000, 200_000_000, 300_000_000
"""Bytes of one attacks' process, of Ray's own processes, and of the one that follows a run into MLflow."""
_JUDGED = 8
"""Copies of the public sample in float64: half of them the attacks' process's, half of who scores its answers."""
_COPIES = 4
"""Of each model in a block: as it was, as it is, its gradient, and room for a step."""
_INDEX = 8
"""Bytes of a record's place in a batch."""
_GENEROUS = 2
"""Estimates of memory beyond so many times what there is are refused."""
_VISITS = 10**12
"""Records that clients step through in all: beyond so many, a run takes days on any machine."""

_STEPS = 10**7
"""Of a method, an attack or a defense, or rounds between a request and its unlearning: more take days."""
_IS_WORK = (
    *("rounds", "epochs", "steps", "resteps", "iterations", "polish", "restarts", "exchanges", "refinements"),
    *("candidates", "shadows", "deletions", "borders", "halvings", "code"),
)
"""Their integers with which the work grows. Any other may be as large as it likes: a cap, a size, an interval."""
_IS_FACTOR = ("learning_rate", "l2")
"""How options end by which parameters are multiplied. Others may be larger than any parameter: a cap, an epsilon."""


@dataclass(frozen=True)
class Demand:
    """What one key of a scenario asks for.

    Attributes:
        key: with its value.
        amount: bytes of memory, or a factor of the work.
    """

    key: str
    amount: float


def check(plan: Plan, scenario: Scenario, yes: bool = False) -> list[str]:
    """Refuse a scenario that takes more memory than there is, or days, or that trains nothing, or cannot be computed.

    Args:
        plan: of the scenario.
        scenario: what is asked for.
        yes: whether the user wants it all the same.

    Returns:
        A line for each thing that would have been refused.

    Raises:
        ScenarioError: names the key that is too large.
        DataError: the data cannot be used, or no machine could hold the model.
    """
    cache, said = cache_directory() / "populations", []
    _check_clients(plan)
    for prefix in plan.prefixes:
        population = load_population(prefix.setting.data, prefix.entropy, cache)
        if beyond := _beyond(prefix, population):
            raise ScenarioError(beyond)
        for sentence, change in (
            (_too_much(prefix, population, scenario), "give less"),
            (_too_long(prefix, population, scenario), "give less"),
            (_too_many(prefix, scenario), "give less"),
            (_nobody(prefix, population), "give more"),
        ):
            if sentence and not yes:
                raise ScenarioError(f"{sentence}: {change}, or --yes to run it all the same")
            if sentence:
                said.append(f"warning   {sentence}")
    return list(dict.fromkeys(said))


def memory(prefix: Prefix, population: AbstractPopulation, scenario: Scenario) -> float:
    """Bytes that all processes of a run hold at once, libraries included (docs/scale.md says what grows with what).

    What attacks hold besides the public sample is theirs, and not counted.
    """
    return _LIBRARIES + sum(demand.amount for demand in _memory(prefix, population, scenario))


def clients_a_round(training: TrainingConfig, population: AbstractPopulation) -> int | None:
    """``expected_clients``, rounded to whole ones."""
    expected = expected_clients(training, population)
    return None if expected is None else round(expected)


def expected_clients(training: TrainingConfig, population: AbstractPopulation) -> float | None:
    """Expected client updates of one round; None for lbfgs, which asks everybody until it has converged."""
    if training.algorithm == "lbfgs":
        return None
    if training.algorithm == "closed-form":
        return population.clients
    if training.sampling is not None:
        return training.sampling.rate * population.clients
    return min(training.clients_per_round or population.clients, population.clients)


def kept_updates(prefix: Prefix, population: AbstractPopulation) -> int:
    """Bytes of client updates that a training keeps on disk; 0 where no method needs them."""
    if not any("client updates" in arm.unlearning.card.needs for arm in prefix.arms):
        return 0
    training = prefix.setting.training
    expected = expected_clients(training, population)
    clients = population.clients if expected is None else expected
    size = model_of(model_spec(prefix.setting, population, prefix.entropy)).bytes
    return round(clients * rounds_of(training) * size)


def rounds_of(training: TrainingConfig) -> int:
    """Rounds that a training has: 1 where the optimum is solved for."""
    return training.rounds if training.algorithm in ("fedavg", "fedsgd") else 1


def _memory(prefix: Prefix, population: AbstractPopulation, scenario: Scenario) -> Iterator[Demand]:
    training, deletion, runtime = prefix.setting.training, prefix.setting.deletion, scenario.runtime
    hosts = (os.cpu_count() or 1) if runtime.hosts == "auto" else runtime.hosts
    here = 0 if runtime.ray_address else 1 if runtime.backend == "serial" else hosts
    expected = expected_clients(training, population)
    clients = population.clients if expected is None else max(ceil(expected), 1)
    requests = len(deletion.request) or deletion.requests
    at_once = 1 if deletion.pattern == "sequential" else requests
    size = model_of(model_spec(prefix.setting, population, prefix.entropy)).bytes
    block, rounds = min(runtime.block_size, clients), rounds_of(training)
    on_cpus = scenario.runtime.device == "cpu"
    judges = here if on_cpus and 1 < here <= len(plan_of(scenario).arms) else 1
    yield from _beside(prefix, population, scenario, here if runtime.backend == "ray" else 0, judges)
    yield Demand(f"runtime.block_size = {runtime.block_size}", here * _COPIES * block * size)
    yield Demand(f"training.rounds = {rounds}", (rounds + 1) * size)
    yield Demand(f"deletion.requests = {requests}", _COPIES * at_once * size)
    if training.algorithm == "fedavg":
        longest = int(population.sizes.max())
        padded = fillable(training.batch_size, longest) + longest
        yield Demand(
            _passes(training), max(here, 1) * block * (training.local_steps or training.local_epochs) * padded * _INDEX
        )
    if training.start == "public":
        yield Demand(
            f"training.start_epochs = {training.start_epochs}",
            training.start_epochs * len(population.public_x) * _INDEX,
        )


def _beside(
    prefix: Prefix, population: AbstractPopulation, scenario: Scenario, on_ray: int, judges: int
) -> Iterator[Demand]:
    """Other processes than the run's own, and what is held of the public sample, by hosts on Ray and arms at a time."""
    public = population.public_x.size * np.float64().nbytes
    of_hosts = on_ray * _LIBRARIES + (_OF_RAY if on_ray else 0) + judges * _OF_ATTACKS
    yield Demand(f"runtime.hosts = {scenario.runtime.hosts}", of_hosts)
    yield Demand("tracking in MLflow", _OF_MLFLOW)
    yield Demand(f"data.public_fraction = {prefix.setting.data.public_fraction}", (judges * _JUDGED + 1) * public)


def _passes(training: TrainingConfig) -> str:
    if training.local_steps:
        return f"training.local_steps = {training.local_steps}"
    return f"training.local_epochs = {training.local_epochs}"


def _too_much(prefix: Prefix, population: AbstractPopulation, scenario: Scenario) -> str:
    """What takes more memory than there is, in a sentence; empty: nothing does."""
    demands, there = list(_memory(prefix, population, scenario)), machine.memory()
    total = _LIBRARIES + sum(demand.amount for demand in demands)
    if total <= _GENEROUS * there:  # the estimate is a rough one
        return ""
    largest = max(demands, key=lambda demand: demand.amount)
    return (
        f"{largest.key}{_of(prefix.setting)}: the run takes about {machine.shown(total)} of memory, most of it for "
        f"this, and this machine has {machine.shown(there)}"
    )


def _too_long(prefix: Prefix, population: AbstractPopulation, scenario: Scenario) -> str:
    """What takes days, in a sentence; empty: nothing is known to."""
    training, deletion = prefix.setting.training, prefix.setting.deletion
    if training.algorithm != "fedavg":
        return ""
    clients = expected_clients(training, population) or 0.0
    longest = int(population.sizes.max())
    a_pass = min(training.batch_size, longest) if training.local_steps else population.records / population.clients
    retrainings = scenario.evaluation.retrainings
    requests = (len(deletion.request) or deletion.requests) if retrainings else 1
    factors = [
        Demand(f"training.rounds = {training.rounds}", training.rounds),
        Demand(_passes(training), training.local_steps or training.local_epochs),
        Demand(f"deletion.requests = {requests}", requests),
        Demand(f"evaluation.retrainings = {retrainings}", max(retrainings, 1)),
    ]
    visits = clients * max(a_pass, 1.0)
    for factor in factors:
        visits *= factor.amount
    if visits <= _VISITS:
        return ""
    largest = max(factors, key=lambda factor: factor.amount)
    return (
        f"{largest.key}{_of(prefix.setting)}: clients step through {visits:.1e} records in all, retrainings included, "
        f"which takes days"
    )


def _too_many(prefix: Prefix, scenario: Scenario) -> str:
    """What is stepped through for days whatever a step costs, in a sentence; empty: nothing is known to be."""
    deletion, evaluation = prefix.setting.deletion, scenario.evaluation
    counts = {
        f"deletion.rounds_between{_of(prefix.setting)}": deletion.rounds_between,
        "evaluation.relearning": evaluation.relearning,
    }
    for name, entry in _entries(prefix):
        values = {key: value for key, value in entry.items() if key in _IS_WORK and type(value) is int}
        counts |= {f"{key} of {name}": value for key, value in values.items()}
    for key, value in counts.items():
        if value > _STEPS:
            return f"{key} = {value}: so many steps take days"
    return ""


def _entries(prefix: Prefix) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the arms of a training unlearn, defend and attack by: how a sentence names it, and its options."""
    for arm in prefix.arms:
        yield f"unlearning {arm.unlearning.method!r}", arm.unlearning.model_dump()
        yield from ((f"defense {part.kind!r}", part.model_dump()) for part in arm.defense.parts())
        yield from ((f"attack {attack.kind!r}", attack.model_dump()) for attack in arm.attacks)


def _beyond(prefix: Prefix, population: AbstractPopulation) -> str:
    """Which factor of parameters these cannot hold, in a sentence; empty: none. PyTorch refuses to multiply by it."""
    dtype = model_spec(prefix.setting, population, prefix.entropy).dtype
    largest, setting = float(np.finfo(dtype).max), prefix.setting
    named = [(f"training.{key}", value) for key, value in _factors(setting.training.model_dump())]
    named += [(f"model.{key}", value) for key, value in _factors(setting.model.model_dump())]
    named += [(f"{key} of {name}", value) for name, entry in _entries(prefix) for key, value in _factors(entry)]
    for key, value in named:
        if abs(value) > largest:
            return (
                f"{key} = {value:g}{_of(setting)}: parameters are {dtype} numbers, of which the largest is "
                f"{largest:.1e}: give less"
            )
    return ""


def _factors(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The options by which parameters are multiplied, those of inner tables by ``outer.inner``."""
    for key, value in entry.items():
        if isinstance(value, float) and key.endswith(_IS_FACTOR):
            yield key, value
        elif isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", number) for inner, number in _factors(value))


def _nobody(prefix: Prefix, population: AbstractPopulation) -> str:
    """That a whole training draws less than one client in expectation, in a sentence; empty: it draws some."""
    training = prefix.setting.training
    if training.sampling is None or training.algorithm not in ("fedavg", "fedsgd"):
        return ""
    rate, draws = training.sampling.rate, population.clients * training.rounds
    if rate * draws >= 1.0:
        return ""
    return (
        f"training.sampling.rate = {rate:g}{_of(prefix.setting)}: in {training.rounds} rounds of {population.clients} "
        f"clients {rate * draws:.2g} are drawn in expectation, so that nothing is trained, and one a round needs "
        f"{1.0 / population.clients:.2g}"
    )


def _check_clients(plan: Plan) -> None:
    """Refuse populations whose clients' sizes alone fill the memory: nothing of them has been made yet."""
    for prefix in plan.prefixes:
        data, there = prefix.setting.data, machine.memory()
        if data.is_synthetic and data.clients * 4 * _INDEX > there:
            raise ScenarioError(
                f"data.clients = {data.clients}{_of(prefix.setting)}: a list of as many takes "
                f"{machine.shown(data.clients * 4.0 * _INDEX)}, and this machine has {machine.shown(there)}: give less"
            )


def _of(setting: Setting) -> str:
    return f" in the variant {setting.variant!r}" if setting.variant else ""
