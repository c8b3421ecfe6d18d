"""What is said of chains of requests: what is left after all of them, by request, and in no median."""

from pathlib import Path

import pytest
from rich.console import Console

from palimpsest.simulator.results.chains import after, followed_attack, series
from palimpsest.simulator.results.report import markdown, table
from palimpsest.simulator.results.schema import ArmResult, RunResults
from palimpsest.simulator.results.verdicts import verdict
from tests.support import every_figure

ATTACK = "client-profile-of-a-long-name"


@pytest.fixture
def results(tmp_path: Path) -> RunResults:
    return RunResults.read(every_figure.departures(tmp_path) / "results.json")


def refused(arm: ArmResult) -> ArmResult:
    """The same with its last request refused."""
    rows = arm.to_json()["requests"]
    rows[-1] |= {"accepted": False, "case": None, "reason": "budget", "utility_after": None, "attacks": {}}
    return ArmResult.model_validate(arm.to_json() | {"requests": rows, "requests_completed": 4})


def test_the_verdict_of_a_chain_is_of_its_end_and_of_each_request(results: RunResults) -> None:
    plain, private, *_ = results.arms
    said = verdict(plain)
    assert said.startswith("after all 5 requests accuracy 0.86 -> 0.86")
    assert "median" not in said
    values = series([row.attacks[ATTACK].success for row in plain.requests])
    assert f"{ATTACK} gets {values} of the label histogram by request (without a model 0.60, 0.60" in said
    assert "nobody's data are left" in said
    assert "epsilon 13 for those who stay, at most 8 for leavers" in verdict(private)


def test_a_refused_request_ends_the_chain_at_the_last_accepted(results: RunResults) -> None:
    arm = refused(results.arms[0])
    assert after(arm) == "after the last of 4 accepted"
    assert "1 of 5 requests refused" in verdict(arm)
    assert "nobody's data" not in verdict(arm)


def test_the_table_has_a_row_a_request_and_fits(results: RunResults) -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table(results, 80))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("Birchwood leaves, returns") for line in lines) == len(results.arms)
    assert sum(line.startswith("Eastvale leaves") for line in lines) == len(results.arms)
    assert any(line.startswith("retrain: after all 5 requests accuracy") for line in lines)
    assert "| Dunmore leaves | 0.700 | 0.740 |" in markdown(results)


def test_the_attack_that_rises_above_chance_is_followed(results: RunResults) -> None:
    assert followed_attack(results.arms) == ATTACK
    assert series([0.1, None, 0.3]) == "0.10, -, 0.30"
    assert series([0.5, 0.1, 0.9] * 4) == "0.50 to 0.90 (lowest 0.10, highest 0.90)"
