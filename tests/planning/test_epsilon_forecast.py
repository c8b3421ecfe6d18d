"""What a plan says that epsilon will be is what a run ends with."""

from functools import partial
from pathlib import Path

import pytest

from palimpsest.simulator.experiment.runner import run
from palimpsest.simulator.planning.epsilon_forecast import epsilons
from palimpsest.simulator.planning.estimate import table
from palimpsest.simulator.planning.plan import plan
from tests.support.scenarios import small_scenario

_scenario = partial(small_scenario, name="planned", defense=[{"kind": "dp-sgd", "noise_multiplier": 1.0}])


@pytest.mark.parametrize("pattern", ["independent", "sequential"])
def test_the_planned_epsilon_is_what_a_run_spends(pattern: str, tmp_path: Path) -> None:
    scenario = _scenario(deletion={"requests": 2, "pattern": pattern})
    [prefix] = plan(scenario).prefixes
    planned = epsilons(scenario, prefix, tmp_path)
    spent = {arm["arm"]: arm["privacy"] for arm in run(scenario, tmp_path / "run").results["arms"]}
    assert {arm: planned[arm] for arm in spent} == {arm: said["epsilon_max"] for arm, said in spent.items()}
    assert planned["retrain--dp-sgd--seed0"] > planned[""] == planned["none--dp-sgd--seed0"] > 0.0


def test_epsilon_has_a_column_only_where_a_defense_is_private_and_a_dash_where_its_arm_has_none() -> None:
    none = {"kind": "none"}
    open_ = _scenario(defense=[none])
    assert "epsilon" not in [column.header for column in table(plan(open_), open_).columns]
    mixed = _scenario(defense=[none, {"kind": "central-dp", "noise_multiplier": 1.0}])
    [column] = [column for column in table(plan(mixed), mixed).columns if column.header == "epsilon"]
    shared, retrained, ignored, *of_private, _total = column.cells
    assert [shared, retrained, ignored] == ["-", "-", "-"]
    assert float(str(of_private[1])) > float(str(of_private[0])) > 0.0
