"""What was understood of a scenario's data, as lines for a terminal."""

from collections.abc import Iterable, Iterator

from palimpsest.simulator.planning.plan import Plan
from palimpsest.simulator.scenario.sections import Setting
from palimpsest.simulator.world.data.build import load_population
from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.data.preview_text import lines
from palimpsest.simulator.world.files import cache_directory


def of_plan(plan: Plan) -> list[str]:
    """Load the data of a plan, or build them, and describe them.

    Raises:
        DataError: they cannot be used.
    """
    cache = cache_directory() / "populations"
    prefixes = {(p.setting.data, p.seed): p for p in reversed(plan.prefixes)}  # of equal data the first
    first = [p for p in plan.prefixes if prefixes[p.setting.data, p.seed] is p]
    return describe((p.setting, p.seed, load_population(p.setting.data, p.entropy, cache)) for p in first)


def describe(trainings: Iterable[tuple[Setting, int, AbstractPopulation]]) -> list[str]:
    """Describe each configuration of the data once, by its first seed.

    Args:
        trainings: setting, seed and population of each.
    """
    first: dict[DataConfig, tuple[Setting, AbstractPopulation]] = {}
    seeds: dict[DataConfig, list[int]] = {}
    for setting, seed, population in trainings:
        first.setdefault(setting.data, (setting, population))
        of_data = seeds.setdefault(setting.data, [])
        if seed not in of_data:
            of_data.append(seed)
    return [
        line
        for data, (setting, population) in first.items()
        for line in _described(setting.variant if len(first) > 1 else "", seeds[data], population)
    ]


def _described(variant: str, seeds: list[int], population: AbstractPopulation) -> Iterator[str]:
    if population.preview is None:
        return
    if variant:
        yield f"variant   {variant}"
    yield from lines(population.preview)
    if len(seeds) > 1:
        yield f"seeds     {', '.join(map(str, seeds))}: each divides the records anew; shown is seed {seeds[0]}"
