"""Strategies in a scenario: their keys, and what they do not go with."""

import tomllib
from typing import Any

import pytest

from palimpsest.simulator.scenario.load import Scenario, ScenarioError, dump_toml, scenario_from_dict
from palimpsest.simulator.scenario.strategy import strategy_of


def training(**keys: Any) -> Scenario:
    """A scenario whose training has these keys."""
    return scenario_from_dict({"name": "x", "training": keys})


def test_a_strategy_has_its_hyper_parameters_and_no_others() -> None:
    section = training(strategy="fedadam", beta_1=0.5).training
    assert section.strategy_options == {"server_learning_rate": 0.1, "beta_1": 0.5, "beta_2": 0.99, "tau": 1e-3}
    assert strategy_of(section.strategy, section.strategy_options).model_dump()["beta_1"] == 0.5


def test_a_scenario_with_a_strategy_is_written_and_read_again() -> None:
    scenario = training(strategy="fedavgm", server_momentum=0.8)
    assert scenario_from_dict(tomllib.loads(dump_toml(scenario))) == scenario


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown": ({"strategy": "fedadma"}, ["training.strategy", "fedadma", "did you mean 'fedadam'"]),
    "another's": ({"beta_1": 0.5}, ["training.beta_1 = 0.5", "'fedadam'", "not 'fedavg'", "leave it out"]),
    "no such key": ({"strategy": "fedadam", "beta_3": 0.5}, ["training.beta_3: unknown key", "did you mean 'beta_"]),
    "a bad value": ({"strategy": "fedadam", "beta_1": 1.0}, ["training.beta_1 = 1.0", "below 1"]),
    "adam with momentum": (
        {"optimizer": "adam", "momentum": 0.9},
        ["training.momentum = 0.9", "optimizer = 'sgd'", "give 0"],
    ),
    "adam of one step": ({"optimizer": "adam", "algorithm": "fedsgd"}, ["optimizer = 'adam'", "algorithm = 'fedavg'"]),
    "a decay of nothing": ({"decay": 0.5}, ["training.decay = 0.5", "schedule = 'exponential'"]),
    "variates of adam": (
        {"strategy": "scaffold", "optimizer": "adam"},
        ["'scaffold'", "training.optimizer = 'adam'", "take momentum = 0 and optimizer = 'sgd'"],
    ),
    "another algorithm": (
        {"strategy": "fedadam", "algorithm": "fedsgd"},
        ["training.strategy = 'fedadam'", "algorithm = 'fedsgd'", "take algorithm = 'fedavg'"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_strategy_that_cannot_be_is_refused_in_one_sentence(name: str) -> None:
    keys, words = REFUSED[name]
    with pytest.raises(ScenarioError) as caught:
        training(**keys)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def whole(strategy: str, **sections: Any) -> Scenario:
    return scenario_from_dict({"name": "x", "training": {"strategy": strategy}, **sections})


@pytest.mark.parametrize("strategy", ["scaffold", "fedmedian", "trimmed-mean", "krum"])
def test_single_updates_are_refused_where_nobody_sees_them(strategy: str) -> None:
    with pytest.raises(ScenarioError, match=rf"'{strategy}' with federation.secure_aggregation = true.*fedadam"):
        whole(strategy, federation={"secure_aggregation": True})
    with pytest.raises(ScenarioError, match=rf"'{strategy}' with defense.0.kind = 'central-dp'.*fedadam"):
        whole(strategy, defense=[{"kind": "central-dp"}])
    whole("fedadam", federation={"secure_aggregation": True}, defense=[{"kind": "central-dp"}])


@pytest.mark.parametrize("strategy", ["fedprox", "scaffold"])
def test_private_steps_and_other_steps_are_refused_together(strategy: str) -> None:
    with pytest.raises(ScenarioError, match=rf"'{strategy}' with defense.0.kind = 'dp-sgd'.*one of fedavg"):
        whole(strategy, defense=[{"kind": "dp-sgd"}])


def test_scaffold_is_refused_with_momentum() -> None:
    with pytest.raises(ScenarioError, match=r"'scaffold' with training.momentum = 0.9.*take momentum = 0"):
        training(strategy="scaffold", momentum=0.9)


def test_other_rates_and_steps_are_refused_where_a_method_rests_on_plain_ones() -> None:
    unlearning, deletion = [{"method": "sifu"}], {"level": "client"}
    for key, value, word in (("schedule", "cosine", "'constant'"), ("optimizer", "adam", "'sgd'")):
        with pytest.raises(ScenarioError, match=rf"'sifu' with training.{key} = '{value}'.*take {key} = {word}"):
            scenario_from_dict({"name": "x", "training": {key: value}, "unlearning": unlearning, "deletion": deletion})
    with pytest.raises(ScenarioError, match=r"training.optimizer = 'adam' with defense.0.kind = 'dp-sgd'"):
        scenario_from_dict({"name": "x", "training": {"optimizer": "adam"}, "defense": [{"kind": "dp-sgd"}]})


@pytest.mark.parametrize("method", ["federaser", "fedrecovery", "sifu", "puf", "distil", "pga", "fedosd"])
def test_methods_for_fedavg_alone_are_refused_under_another_strategy(method: str) -> None:
    with pytest.raises(ScenarioError, match=rf"'{method}'.*training.strategy = 'fedadam'.*retrain, rollback"):
        scenario_from_dict(
            {
                "name": "x",
                "training": {"strategy": "fedadam"},
                "deletion": {"level": "client"},
                "unlearning": [{"method": method}],
            }
        )
