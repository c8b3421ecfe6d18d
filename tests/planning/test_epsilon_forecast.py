"""What a plan says that epsilon will be is what a run ends with."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from palimpsest.defenses.dp_sgd import DpSgd
from palimpsest.server.rehearsal import training_account
from palimpsest.simulator.planning.epsilon_forecast import EpsilonForecast
from palimpsest.simulator.planning.estimate import table
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.planning.privacy import EpsilonMeter, TrainingPrice, defended
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.world.protocols.defense import Defense
from tests.support.scenarios import small_scenario, untracked

_scenario = partial(small_scenario, name="planned", defense=[{"kind": "dp-sgd", "noise_multiplier": 1.0}])


@pytest.mark.parametrize("pattern", ["independent", "sequential"])
def test_the_planned_epsilon_is_what_a_run_spends(pattern: str, tmp_path: Path) -> None:
    scenario = _scenario(deletion={"requests": 2, "pattern": pattern})
    [prefix] = plan(scenario).prefixes
    planned = EpsilonForecast(scenario, tmp_path).of(prefix)
    done = RunFiles.open(untracked(scenario, tmp_path / "run").path)
    spent = {arm.arm: arm.privacy.epsilon_max for arm in done.arms}
    assert {arm: planned[arm] for arm in spent} == spent
    assert planned["retrain--dp-sgd--seed0"] > planned[""] == planned["none--dp-sgd--seed0"] > 0.0


def test_trainings_that_differ_in_their_noise_are_rehearsed_as_if_each_were_alone(tmp_path: Path) -> None:
    noises = [0.7, 1.0, 3.0]
    defenses = [
        {"kind": "dp-sgd", "noise_multiplier": noises},
        {"kind": "central-dp", "noise_multiplier": noises},
        {"kind": "stack", "of": [{"kind": "central-dp", "noise_multiplier": 2.0}, {"kind": "finetuning", "rounds": 1}]},
    ]
    scenario = _scenario(defense=defenses, deletion={"requests": 2})
    together, prefixes = EpsilonForecast(scenario, tmp_path), plan(scenario).prefixes
    spent = [together.of(prefix) for prefix in prefixes]
    assert spent == [EpsilonForecast(scenario, tmp_path).of(prefix) for prefix in prefixes]
    assert len({said[""] for said in spent}) == len(prefixes) == 7


@pytest.mark.parametrize("kind", ["dp-sgd", "central-dp"])
def test_a_price_at_unit_noise_is_that_of_a_rehearsal(kind: str, tmp_path: Path) -> None:
    scenario = _scenario(defense=[{"kind": kind, "noise_multiplier": 1.7}])
    [prefix] = plan(scenario).prefixes
    setup = PreparedTraining.of(scenario, prefix, tmp_path).setup
    price = TrainingPrice(EpsilonMeter(1e-5), lambda defense: training_account(replace(setup, defense=defense)))
    for noise in (0.6, 1.7, 9.0):
        defense = setup.defense.model_copy(update={"noise_multiplier": noise})
        assert price(defense) == price.rehearsed(defense) > 0.0


class Flattering(DpSgd):
    """Says that it charges half of what it does."""

    def at_unit_noise(self) -> tuple[Defense, float]:
        """False."""
        unit, noise = super().at_unit_noise()
        return unit, 2.0 * noise


def test_a_calibration_does_not_believe_a_false_price(tmp_path: Path) -> None:
    scenario = _scenario()
    [prefix] = plan(scenario).prefixes
    setup = PreparedTraining.of(scenario, prefix, tmp_path).setup
    honest, flattering = (
        defended(setup, [cls(target_epsilon=3.0)], scenario.privacy).defense for cls in (DpSgd, Flattering)
    )
    assert honest.at_unit_noise()[1] == flattering.sigma


def test_epsilon_has_a_column_only_where_a_defense_is_private_and_a_dash_where_its_arm_has_none() -> None:
    none = {"kind": "none"}
    open_ = _scenario(defense=[none])
    assert "epsilon" not in table(plan(open_), open_).headers
    mixed = _scenario(defense=[none, {"kind": "central-dp", "noise_multiplier": 1.0}])
    said = table(plan(mixed), mixed)
    assert said.headers[-1] == "epsilon"
    shared, retrained, ignored, *of_private = [line.cells[-1] for line in said.lines]
    assert [shared, retrained, ignored] == ["-", "-", "-"]
    assert float(str(of_private[1])) > float(str(of_private[0])) > 0.0
