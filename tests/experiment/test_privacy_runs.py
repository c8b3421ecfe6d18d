"""Whole runs under differential privacy: what they say of it, and where it is tracked."""

import json
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from palimpsest.simulator.experiment.runner import prepare, run, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.figures.all import draw_all
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.world.errors import DataError
from tests.support.scenarios import small_scenario
from tests.support.stores import new_store

_scenario = partial(
    small_scenario, name="private", defense=[{"kind": "none"}, {"kind": "dp-sgd", "target_epsilon": 3.0}]
)


def test_a_private_run_says_what_it_spent_and_mlflow_has_it_by_round(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    scenario = _scenario(
        tracking={"uri": store}, unlearning=[{"method": "retrain"}], defense=[{"kind": "dp-sgd", "target_epsilon": 3.0}]
    )
    [arm] = run(scenario, tmp_path / "run").results["arms"]
    spent = arm["privacy"]
    assert spent["unit"] == "record"
    assert 2.8 < spent["retained"]["before"]["max"] <= 3.0 < spent["epsilon_max"] == spent["retained"]["after"]["max"]
    assert spent["deleted"]["before"] == spent["deleted"]["after"]
    client = MlflowClient(store)
    [experiment] = [found for found in client.search_experiments() if found.name == "private"]
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    points = client.get_metric_history(runs[arm["arm"]].info.run_id, "training/epsilon")
    curve = [point.value for point in sorted(points, key=lambda point: point.step)]
    assert [point.step for point in sorted(points, key=lambda point: point.step)] == [0, 1, 2, 3]
    assert curve[0] == 0.0
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(spent["retained"]["before"]["max"])
    told = [json.loads(line).get("spent") for line in (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()]
    assert any(entry and entry["deleted"]["after"]["max"] > 0.0 for entry in told)


def test_arms_share_a_training_only_where_their_defenses_in_it_are_equal() -> None:
    stacked = {"kind": "stack", "of": [{"kind": "dp-sgd", "noise_multiplier": [1.0, 2.0]}, {"kind": "none"}]}
    scenario = _scenario(defense=[{"kind": "none"}, {"kind": "dp-sgd", "noise_multiplier": 1.0}, stacked])
    prefixes = plan(scenario).prefixes
    assert [[arm.id for arm in prefix.arms] for prefix in prefixes] == [
        ["retrain--none--seed0", "none--none--seed0"],
        [
            "retrain--dp-sgd--seed0",
            "retrain--dp-sgd+none-1--seed0",
            "none--dp-sgd--seed0",
            "none--dp-sgd+none-1--seed0",
        ],
        ["retrain--dp-sgd+none-2--seed0", "none--dp-sgd+none-2--seed0"],
    ]


def test_a_training_that_alone_passes_the_budget_is_refused_before_anything_starts(tmp_path: Path) -> None:
    scenario = _scenario(defense=[{"kind": "central-dp"}], privacy={"budget": 0.5})
    with pytest.raises(DataError, match=r"privacy\.budget = 0\.5: the training alone spends epsilon = .*central-dp"):
        run(scenario, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_whose_budget_refuses_every_request_ends_and_says_so(tmp_path: Path) -> None:
    scenario = _scenario(defense=[{"kind": "central-dp"}], unlearning=[{"method": "retrain"}], privacy={"budget": 9.0})
    (tmp_path / "run").mkdir()
    [arm] = simulate(scenario, prepare(scenario), tmp_path / "run", SerialGrid(1)).arms
    assert (arm.requests_completed, arm.utility, arm.attacks, arm.privacy.bounds) == (0, None, {}, ())
    assert arm.privacy.deleted is not None
    assert arm.privacy.deleted.after is None
    assert 0.0 < (arm.privacy.epsilon_max or 0.0) < 9.0
    assert "2 of 2 requests refused" in arm.verdict
    assert {path.name for path in draw_all(tmp_path / "run")} == {"utility.png"}


def test_where_every_request_is_refused_and_nothing_is_tested_the_run_ends_too(tmp_path: Path) -> None:
    data = {"source": "digits", "clients": 6, "public_fraction": 0.4, "test_fraction": 0.0}
    defense = [{"kind": "central-dp", "clip": 1.0, "noise_multiplier": 1.0}]
    scenario = _scenario(data=data, defense=defense, unlearning=[{"method": "retrain"}], privacy={"budget": 6.6})
    (tmp_path / "run").mkdir()
    [arm] = simulate(scenario, prepare(scenario), tmp_path / "run", SerialGrid(1)).arms
    assert (arm.requests_completed, len(arm.requests)) == (0, 2)


def test_noise_of_the_operating_system_can_not_be_repeated_and_the_run_says_so(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        scenario = _scenario(
            defense=[{"kind": "central-dp"}], unlearning=[{"method": "none"}], privacy={"secure_noise": True}
        )
        (tmp_path / name).mkdir()
        [arm] = simulate(scenario, prepare(scenario), tmp_path / name, SerialGrid(1))["arms"]
        assert "cannot be repeated" in arm["privacy"]["noise"]
        found.append(arm["transcript_digest"])
    assert found[0] != found[1]
