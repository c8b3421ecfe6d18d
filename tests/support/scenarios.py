"""A small scenario for tests that run whole ones."""

from pathlib import Path
from typing import Any

from palimpsest.simulator.experiment.begun import new_directory
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.grids import Grid, SerialGrid
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.scenario.load import Scenario, scenario_from_dict


def untracked(scenario: Scenario, place: Path, grid: Grid | None = None) -> RunDirectory:
    """A finished run as ``run`` leaves it, but for figures and MLflow, which take twenty times as long as the rest.

    It takes place on the hosts of a grid; without one, in this process.
    """
    directory = new_directory(scenario, place)
    simulate(scenario, prepare(scenario), place, SerialGrid(1) if grid is None else grid)
    return directory


def small_scenario(**changes: Any) -> Scenario:
    """Six clients of scikit-learn's digits, three rounds, two requests; ``changes`` replace sections."""
    base: dict[str, Any] = {
        "name": "small",
        "data": {"source": "digits", "clients": 6, "public_fraction": 0.4},
        "training": {"rounds": 3, "clients_per_round": 3, "batch_size": 32},
        "deletion": {"requests": 2},
        "unlearning": [{"method": "retrain"}, {"method": "none"}],
        "attack": [{"kind": "hrec"}],
        "runtime": {"backend": "serial"},
    }
    return scenario_from_dict(base | changes)
