"""What a scenario will cost, from its numbers alone."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from palimpsest.simulator.planning.cost_table import CostTable, Line
from palimpsest.simulator.planning.epsilon_forecast import EpsilonForecast, has_private
from palimpsest.simulator.planning.limits import clients_a_round, kept_updates, memory, rounds_of
from palimpsest.simulator.planning.pace import seconds_per_update
from palimpsest.simulator.planning.plan import Arm, Plan, Prefix
from palimpsest.simulator.planning.requests import draw_requests
from palimpsest.simulator.planning.setup import model_spec
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.data.build import load_population
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.files import cache_directory
from palimpsest.simulator.world.machine import shown
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.forecast import Forecasts, Workload
from palimpsest.simulator.world.records import DeletionRequest


@dataclass(frozen=True)
class Cost:
    """Estimated cost of one arm, its share of common work left out.

    Attributes:
        rounds: of training that its unlearning runs, over all requests; None where it cannot be known beforehand.
        client_updates: messages that clients compute for them; None where it cannot be known beforehand.
        disk: bytes of its transcript.
    """

    rounds: int | None
    client_updates: int | None
    disk: int | None


UNKNOWN = Cost(None, None, None)
"""Of a method that forecasts nothing of itself."""


class _Work:
    """What trainings cost, each thing that several of them share looked up once.

    Args:
        scenario: of the trainings.
        cache: where populations are cached.
    """

    def __init__(self, scenario: Scenario, cache: Path) -> None:
        self.scenario = scenario
        self._cache = cache
        self._paces: dict[Hashable, float | None] = {}
        self._populations: dict[Hashable, AbstractPopulation] = {}
        self._requests: dict[Hashable, Sequence[DeletionRequest]] = {}

    def population(self, prefix: Prefix) -> AbstractPopulation:
        """The data of a training."""
        key = prefix.setting.data, prefix.seed
        if key not in self._populations:
            self._populations[key] = load_population(prefix.setting.data, prefix.entropy, self._cache)
        return self._populations[key]

    def requests(self, prefix: Prefix) -> Sequence[DeletionRequest]:
        """What will be deleted; the defense does not change it."""
        setting, rounds = prefix.setting, rounds_of(prefix.setting.training)
        key = setting.data, setting.deletion, rounds, prefix.entropy
        if key not in self._requests:
            self._requests[key] = draw_requests(setting.deletion, self.population(prefix), rounds, prefix.entropy)
        return self._requests[key]

    def pace(self, prefix: Prefix) -> float | None:
        """Seconds of a client update; the seed does not change it."""
        setting = prefix.setting
        key = setting.data, setting.model, setting.training
        if key not in self._paces:
            precision = self.scenario.runtime.precision
            self._paces[key] = seconds_per_update(prefix, self.population(prefix), precision=precision)
        return self._paces[key]

    def shared(self, prefix: Prefix) -> Cost:
        """Of what the arms of a training share."""
        return _shared(prefix, self.population(prefix), self.scenario.evaluation.retrainings)

    def arms(self, prefix: Prefix) -> Iterator[tuple[Arm, Cost]]:
        """The arms of a training; where working models are heard, how many lbfgs will broadcast is unknown."""
        training, population, requests = prefix.setting.training, self.population(prefix), self.requests(prefix)
        for arm in prefix.arms:
            cost = of_arm(arm, population, requests)
            heard_at_work = arm.setting.adversary.sees == "broadcasts"
            if heard_at_work and (training.algorithm == "lbfgs" or training.shards > 1):
                cost = replace(cost, disk=None)
            yield arm, cost


def table(plan: Plan, scenario: Scenario) -> CostTable:
    """The arms of a plan and their cost; a line of its own for the training and the reference that arms share.

    Where any defense is private, there is a column for epsilon: after the training, and after all deletions of an arm.
    Where a method forecasts nothing of itself, its cost is ``unknown``, and a sentence below names it.

    Args:
        plan: the arms.
        scenario: which they are of.

    Raises:
        DataError: a private training that a run would refuse.
    """
    private, cache, kept = has_private(plan), cache_directory() / "populations", 0
    work, forecast = _Work(scenario, cache), EpsilonForecast(scenario, cache)
    costs_table = CostTable(("rounds", "client updates", "time", "transcript", *(["epsilon"] if private else [])))
    known, total = Total(), 0.0
    for prefix in plan.prefixes:
        pace, shared, spent = work.pace(prefix), work.shared(prefix), forecast.of(prefix)
        name = " ".join(part for part in (prefix.setting.variant, f"seed {prefix.seed}") if part)
        figures = (*_cells(shared, pace), *_epsilon(spent, "", private))
        costs_table.lines.append(Line(f"{name}: training and reference, shared", figures, "dim"))
        known.add(shared, pace)
        for arm, cost in work.arms(prefix):
            known.add(cost, pace)
            costs_table.lines.append(Line(arm.id, (*_cells(cost, pace), *_epsilon(spent, arm.id, private))))
        total = max(total, memory(prefix, work.population(prefix), scenario))
        kept = max(kept, kept_updates(prefix, work.population(prefix)))
    said = f"memory    about {shown(total)}, all processes together"
    costs_table.total = [known.said(len(plan.arms)), said, *_history(kept, scenario), *_silent(plan)]
    return costs_table


def _history(kept: int, scenario: Scenario) -> list[str]:
    """What client updates take on disk until their training's arms are done; empty where none are kept."""
    if not kept:
        return []
    compressed = scenario.runtime.compress_updates
    less = "before compression" if compressed else "runtime.compress_updates = true took 29 to 59 % off where measured"
    return [f"history   {shown(kept)} of client updates on disk for a while; {less}"]


@dataclass
class Total:
    """What all arms cost together.

    Attributes:
        seconds: of training.
        disk: bytes of transcripts.
        part: whether some of either cannot be known beforehand.
    """

    seconds: float = 0.0
    disk: int = 0
    part: bool = False

    def add(self, cost: Cost, pace: float | None) -> None:
        """One arm more, or what arms share."""
        seconds = _seconds(cost, pace)
        self.part |= seconds is None or cost.disk is None
        self.seconds += seconds or 0.0
        self.disk += cost.disk or 0

    def said(self, arms: int) -> str:
        """In a sentence."""
        least = "at least " if self.part else ""
        said = f"{least}{_duration(self.seconds)} of training, {shown(self.disk)} of transcripts"
        return f"total     {arms} arm{'s' * (arms != 1)}: {said}"


def _silent(plan: Plan) -> list[str]:
    """Which methods say nothing of their cost; empty where all do."""
    silent = sorted({arm.unlearning.method for arm in plan.arms if not isinstance(arm.unlearning, Forecasts)})
    return [f"unknown   {', '.join(silent)} cannot say beforehand what it costs"] if silent else []


def of_arm(arm: Arm, population: AbstractPopulation, drawn: Sequence[DeletionRequest]) -> Cost:
    """What the arm's method forecasts of itself; all unknown where it forecasts nothing."""
    if not isinstance(arm.unlearning, Forecasts):
        return UNKNOWN
    training = arm.setting.training
    starts = int(training.algorithm in ("fedavg", "fedsgd"))
    work = Workload(drawn, arm.setting.deletion.rounds_between, starts, clients_a_round(training, population))
    forecast = arm.unlearning.forecast(work)
    releases = rounds_of(training) + starts + forecast.releases
    size = model_of(model_spec(arm.setting, population, arm.entropy)).bytes
    return Cost(forecast.rounds, forecast.client_updates, releases * size)


def _shared(prefix: Prefix, population: AbstractPopulation, retrainings: int) -> Cost:
    """The training itself, and the hidden retrainings of each request."""
    training, deletion = prefix.setting.training, prefix.setting.deletion
    requests = len(deletion.request) or deletion.requests
    rounds = rounds_of(training) * (1 + requests * retrainings)
    per_round = clients_a_round(training, population)
    return Cost(rounds, None if per_round is None else rounds * per_round, 0)


def _cells(cost: Cost, pace: float | None) -> Sequence[str]:
    if cost == UNKNOWN:
        return ["unknown"] * 4
    counts = [f"{value:,}" if value is not None else "until done" for value in (cost.rounds, cost.client_updates)]
    seconds = _seconds(cost, pace)
    took = "-" if seconds is None else _duration(seconds)
    return [*counts, took, "unknown" if cost.disk is None else shown(cost.disk) if cost.disk else "-"]


def _seconds(cost: Cost, pace: float | None) -> float | None:
    return None if pace is None or cost.client_updates is None else pace * cost.client_updates


def _duration(seconds: float) -> str:
    """Rounded to a unit that says enough."""
    if seconds < 1.0:
        return "< 1 s"
    if seconds < 120.0:
        return f"about {seconds:,.0f} s"
    return f"about {seconds / 60.0:,.0f} min" if seconds < 7200.0 else f"about {seconds / 3600.0:,.1f} h"


def _epsilon(spent: Mapping[str, float], whose: str, private: bool) -> Sequence[str]:
    """A cell, where there is such a column."""
    return [f"{spent[whose]:.3g}" if whose in spent else "-"] if private else []
