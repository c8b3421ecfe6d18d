"""A small scenario for tests that run whole ones."""

from typing import Any

from palimpsest.simulator.scenario.load import Scenario, scenario_from_dict


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
