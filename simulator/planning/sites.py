"""The records of each site of a scenario in a directory of its own: what the SuperNodes of a deployment are given."""

from collections.abc import Iterator
from pathlib import Path

from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.data.build import load_population, population_directory
from palimpsest.simulator.world.data.sites import save_site
from palimpsest.simulator.world.files import cache_directory


def split(scenario: Scenario, out: Path) -> Iterator[Path]:
    """Write ``site-0``, ``site-1``, ... below ``out``, each for all of the scenario's populations; yield them.

    Raises:
        ScenarioError: the scenario has no sites, or ``out`` holds something already.
        DataError: the data cannot be used.
    """
    sites = scenario.runtime.sites
    if not sites:
        raise ScenarioError("runtime.sites = 0 leaves nothing to split: give the number of sites")
    if scenario.privacy.secret == "random":
        raise ScenarioError(
            "privacy.secret = 'random' gives the run other sites than those that are written here: take 'given', and "
            "the same PALIMPSEST_SECRET for both"
        )
    if out.exists() and any(out.iterdir()):
        raise ScenarioError(f"--out {out} holds something already: name a new directory")
    for prefix in plan(scenario).prefixes:
        cache = cache_directory() / "populations"
        population = load_population(prefix.setting.data, prefix.entropy, cache)
        if population.clients < sites:
            raise ScenarioError(f"runtime.sites = {sites}: there are only {population.clients} clients")
        name = population_directory(prefix.setting.data, prefix.entropy, cache).name
        for site in range(sites):
            save_site(population, name, site, sites, out / f"site-{site}")
    yield from (out / f"site-{site}" for site in range(sites))
