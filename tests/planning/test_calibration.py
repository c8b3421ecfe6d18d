"""Every private defense under every algorithm: its target is met or refused, its budget is kept, before a run."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from palimpsest.defenses.accountant import epsilon
from palimpsest.simulator.planning.cautions import of_plan
from palimpsest.simulator.planning.epsilon_forecast import EpsilonForecast
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.planning.privacy import EpsilonMeter
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario, scenario_from_dict
from palimpsest.simulator.scenario.registry import card, names
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.privacy.account import Account, Charge

PRIVATE = [name for name in names("defense") if card("defense", name).pays_at]
TRAININGS = {
    "fedavg": {"algorithm": "fedavg", "rounds": 2, "clients_per_round": 3},
    "fedsgd": {"algorithm": "fedsgd", "rounds": 2, "clients_per_round": 3, "learning_rate": 0.01},
    "lbfgs": {"algorithm": "lbfgs"},
    "closed-form": {"algorithm": "closed-form"},
}


def _scenario(defense: dict[str, object], algorithm: str, **more: object) -> Scenario:
    kind = "ridge" if algorithm == "closed-form" else "softmax"
    given = {
        "name": "calibration",
        "seeds": [0],
        "data": {"source": "digits", "clients": 5},
        "model": {"kind": kind, "l2": 1.0},
        "training": TRAININGS[algorithm],
        "deletion": {"requests": 1},
        "unlearning": [{"method": "retrain"}],
        "defense": [defense],
        "attack": [],
        **more,
    }
    return scenario_from_dict(given)


@pytest.mark.parametrize(("kind", "algorithm"), itertools.product(PRIVATE, TRAININGS))
def test_targets_and_budgets_of_every_defense_and_algorithm(kind: str, algorithm: str, tmp_path: Path) -> None:
    try:
        scenario = _scenario({"kind": kind, "target_epsilon": 2.0}, algorithm)
    except ScenarioError as error:
        assert kind in str(error)
        return
    (prefix,) = plan(scenario).prefixes
    spent = EpsilonForecast(scenario, tmp_path).of(prefix)
    assert 1.9 < spent[""] <= 2.0
    kept = _scenario({"kind": kind, "target_epsilon": 2.0}, algorithm, privacy={"budget": 2.0})
    assert EpsilonForecast(kept, tmp_path).of(plan(kept).prefixes[0])[""] == spent[""]
    passed = _scenario({"kind": kind, "target_epsilon": 2.0}, algorithm, privacy={"budget": 1.0})
    with pytest.raises(DataError, match=r"privacy.budget = 1: the training alone spends epsilon = "):
        EpsilonForecast(passed, tmp_path).of(plan(passed).prefixes[0])


def test_a_target_out_of_reach_is_refused_with_the_lowest(tmp_path: Path) -> None:
    scenario = _scenario({"kind": "dp-sgd", "target_epsilon": 1e-12}, "fedavg", privacy={"delta": 1e-12})
    with pytest.raises(
        DataError, match=r"target_epsilon of 'dp-sgd' .* can't be reached; the lowest is .* 'tightest'\)"
    ):
        PreparedTraining.of(scenario, plan(scenario).prefixes[0], tmp_path)


@pytest.mark.parametrize("noise", [1e-9, 0.0, -1.0, 1e9])
@pytest.mark.parametrize("kind", PRIVATE)
def test_noise_that_says_nothing_is_refused(kind: str, noise: float) -> None:
    algorithm = "closed-form" if kind == "dp-statistics" else "fedavg"
    with pytest.raises(ScenarioError, match=r"noise_multiplier = .*: must be at (least 1e-06|most 1000000\.0)"):
        _scenario({"kind": kind, "noise_multiplier": noise}, algorithm)


def test_a_delta_that_promises_little_is_told() -> None:
    for delta, told in ((0.9, True), (1e-3, False), (0.3, True)):
        scenario = _scenario({"kind": "dp-sgd", "noise_multiplier": 1.0}, "fedavg", privacy={"delta": delta})
        lines = of_plan(plan(scenario), scenario.privacy)
        assert bool(lines) == told
        assert all(f"privacy.delta = {delta:g} is above 1 / 899 records" in line for line in lines)
    central = _scenario({"kind": "central-dp", "noise_multiplier": 1.0}, "fedavg", privacy={"delta": 0.3})
    assert "above 1 / 5 clients under 'central-dp'" in of_plan(plan(central), central.privacy)[0]


def test_sampling_that_draws_nobody_is_refused(tmp_path: Path) -> None:
    training = {"algorithm": "fedavg", "rounds": 3, "sampling": {"scheme": "poisson", "rate": 1e-9}}
    scenario = _scenario({"kind": "none"}, "fedavg", training=training)
    with pytest.raises(DataError, match=r"training.sampling.rate = 1e-09: no client takes part in any of the 3 rounds"):
        PreparedTraining.of(scenario, plan(scenario).prefixes[0], tmp_path)


def test_the_highest_epsilon_is_of_a_unit_that_there_is() -> None:
    """A client without records takes its place in a cohort; its noise hides nobody, and counts for nobody."""
    account, meter = Account("record", np.array([40, 0])), EpsilonMeter(1e-5)
    account.charge(0, [0], {}, Charge(1.0, 0.25, 4))
    account.charge(0, [1], {}, Charge(1.0, 1.0, 1))
    assert meter.highest(account, [0]) == max(meter.retained(account, 0, {})) == epsilon({(1.0, 0.25): 4}, 1e-5)
    assert epsilon({(1.0, 1.0): 1}, 1e-5) > meter.highest(account, [0])
