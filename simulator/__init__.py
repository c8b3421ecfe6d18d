"""Palimpsest: federated unlearning under an eavesdropper.

The public door: ``from palimpsest.simulator import run, load_scenario, Result``. Importing it loads nothing else; each
name is loaded where it is first used.
"""

import logging
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palimpsest.simulator.experiment.result import Result
    from palimpsest.simulator.experiment.runner import resume, run
    from palimpsest.simulator.scenario.load import Scenario, load_scenario
    from palimpsest.simulator.world.data.given import Dataset

__all__ = ["Dataset", "Result", "Scenario", "load_scenario", "resume", "run"]

_HOMES = {
    "Dataset": "palimpsest.simulator.world.data.given",
    "Result": "palimpsest.simulator.experiment.result",
    "Scenario": "palimpsest.simulator.scenario.load",
    "load_scenario": "palimpsest.simulator.scenario.load",
    "resume": "palimpsest.simulator.experiment.runner",
    "run": "palimpsest.simulator.experiment.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with warnings.catch_warnings():  # in a notebook tqdm and Ray ask for ipywidgets, which nothing here shows
        warnings.filterwarnings("ignore", message="IProgress not found")
        logging.getLogger("ray.widgets").setLevel(logging.WARNING)
        return getattr(import_module(_HOMES[name]), name)
