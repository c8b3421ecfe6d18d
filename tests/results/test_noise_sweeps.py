"""What is read from sweeps of noise: where attacks stop, what is guaranteed, what it costs, what hides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from palimpsest.simulator.results import noise_table
from palimpsest.simulator.results.intervals import share_interval
from palimpsest.simulator.results.noise_sweeps import Sweep, sweeps
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult
from tests.support import swept
from tests.support.swept import everything, level, retrained, sweep


def _sweeps(arms: Sequence[dict[str, Any]]) -> list[Sweep]:
    return sweeps([ArmResult.model_validate(arm) for arm in arms])


def test_where_attacks_stop_and_where_that_is_guaranteed_with_what_either_costs() -> None:
    [found] = _sweeps(sweep())
    assert [step.noise for step in found.steps] == [0.0, *swept.NOISE]
    assert found.stops is not None
    assert found.guaranteed is not None
    assert (found.stops.noise, found.guaranteed.noise) == (0.3, 3.0)
    assert found.cost(found.stops) == pytest.approx(0.02)
    assert found.cost(found.guaranteed) == pytest.approx(0.3)
    assert (found.stops.best.attack, found.stops.best.trials, found.stops.floor) == ("hrec", 40, 0.0)
    assert found.stops.best.low < 0.02 < found.stops.best.high
    assert found.steps[0].epsilon is None
    assert found.steps[1].epsilon == 50.0
    assert noise_table.sentence(found) == (
        "noise multiplier 0.3 stops every attack tried and costs 0.02 of accuracy; 3 is guaranteed to and costs 0.30 "
        "of accuracy"
    )


def test_an_attack_that_comes_back_at_more_noise_was_not_stopped() -> None:
    [found] = _sweeps(sweep(attacks={"hrec": (1.0, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0)}))
    assert found.stops is not None
    assert found.stops.noise == 0.3
    [never] = _sweeps(sweep(attacks={"hrec": (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9)}))
    assert never.stops is None
    assert "hrec still succeeds at noise multiplier 3 (0.90)" in noise_table.sentence(never)


def test_every_attack_counts_also_one_that_answers_with_no_record() -> None:
    """Whatever its name: what picks the record out of candidates is the same event."""
    strong = {"of-another-package": (1.0, 1.0, 1.0, 1.0, 1.0, 0.6, 0.05)}
    [found] = _sweeps(sweep(picked=strong))
    assert found.stops is not None
    assert found.stops.noise == 3.0
    assert found.steps[4].best.attack == "of-another-package"
    assert {tried.attack for tried in found.steps[4].attacks} == {"hrec", "of-another-package"}


def test_an_attack_that_judges_given_records_counts_at_one_percent_of_false_positives() -> None:
    [found] = _sweeps(sweep(judged={"ratio": (1.0, 1.0, 1.0, 1.0, 0.9, 0.3, 0.0)}))
    assert found.stops is not None
    assert (found.stops.noise, found.steps[4].best.name) == (3.0, "ratio (at 1 %)")


def test_what_hides_is_told_apart_by_what_a_retraining_repeats() -> None:
    of_ascent, fresh, coins, both, newton = _sweeps(everything())
    assert [s.hiding for s in (both, coins, fresh)] == [
        "same coins, same noise", "same coins, fresh noise", "fresh coins, fresh noise",
    ]  # fmt: skip
    assert both.stops is None
    assert coins.stops is not None
    assert fresh.stops is not None
    assert (coins.stops.noise, fresh.stops.noise) == (0.3, 0.01)
    assert [s.repeats for s in (of_ascent, both, coins, fresh, newton)] == [False, True, True, False, False]
    assert noise_table.sentence(fresh).startswith("noise multiplier 0.01 (the least tried) stops every attack tried")
    assert (newton.defense, newton.guaranteed) == ("obfuscation", None)


def test_the_answer_is_one_sentence_about_what_would_be_released() -> None:
    """Couplings that repeat randomness show what hides; nobody would release what they make."""
    found = noise_table.answer(_sweeps(everything()))
    assert found == (
        "Noise that stops every attack tried costs 0.00 to 0.02 of accuracy; noise that is guaranteed to costs 0.30; "
        "no noise tried is guaranteed to for newton"
    )
    assert noise_table.answer(_sweeps(sweep(attacks={"hrec": (1.0,) * 7}, gamma=(1.0,) * 7))) == (
        "No noise tried stops every attack on ascent; no noise tried is guaranteed to for ascent"
    )


@pytest.mark.parametrize("left_out", ["few strengths", "no bare arm", "calibrated"])
def test_what_is_no_sweep_is_none(left_out: str) -> None:
    arms = {
        "few strengths": [level(place) for place in range(6)],
        "no bare arm": [level(place) for place in range(1, 7)],
        "calibrated": [
            {**arm, "defense": {**arm["defense"], "target_epsilon": 8.0}} if arm["defense"]["kind"] != "none" else arm
            for arm in sweep()
        ],
    }[left_out]
    assert _sweeps(arms) == []


def test_seeds_are_pooled_and_another_metric_is_called_by_its_name() -> None:
    arms = retrained("same-order")
    for arm in arms:
        arm["utility"] = {**arm["utility"], "metric": "r2"}
    [found] = _sweeps(arms)
    assert len(found.steps[0].utilities) == 2
    assert "of R2" in noise_table.sentence(found)


def test_the_table_at_80_columns_begins_with_the_answer(tmp_path: Path) -> None:
    run = RunFiles.open(swept.swept(tmp_path / "run"))
    assert noise_table.applies(run)
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(noise_table.table(run))
    text = console.export_text()
    assert " ".join(text.split()).startswith("Noise that stops every attack tried costs 0.00 to 0.02 of accuracy;")
    assert max(map(len, text.splitlines())) <= 80
    assert "an-attack-with-a-name" in text
    row = next(line for line in reversed(text.splitlines()) if line.startswith("  0.3"))
    low, high = share_interval(
        0.02, 2 * swept.DELETIONS, 0.05 / 42
    )  # seven strengths of five sweeps, two attacks on one
    assert row.split() == ["0.3", "20", "hrec", "0.02", f"({low:.2f}-{high:.2f})", "1.00", "0.00", "0.879"]
