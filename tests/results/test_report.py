"""Verdicts say what the intervals support, and the table fits the terminal."""

from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from palimpsest.simulator.results.attack_results import AttackResult, ReconstructionResult
from palimpsest.simulator.results.evidence import evidence
from palimpsest.simulator.results.report import markdown, table
from palimpsest.simulator.results.schema import ArmResult, Defense
from palimpsest.simulator.results.verdicts import finding, headline, label_of, leading, verdict
from tests.support.entries import arm_result, reconstruction, run_results


def attack(raw: float, centred: float, half: float = 0.03, **changes: Any) -> ReconstructionResult:
    """Figures of one attack, with intervals of ``half`` either side of the medians."""
    return ReconstructionResult.model_validate(reconstruction(raw, centred, half, **changes))


AVERAGE = attack(0.63, 0.0, half=0.02)
FLOOR = {"average": AVERAGE}


def arm(unlearning: str = "ascent", attacks: Mapping[str, AttackResult] | None = None, **changes: Any) -> ArmResult:
    """An arm with these attacks and the public mean."""
    return arm_result(unlearning={"method": unlearning}, attacks={"average": AVERAGE, **(attacks or {})}, **changes)


def hrec(*figures: float, **changes: Any) -> dict[str, AttackResult]:
    """The only attack beside the public mean."""
    return {"hrec": attack(*figures, **changes)}


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (attack(0.98, 0.97), "back"),
        (attack(0.80, 0.50), "part"),
        (attack(0.95, 0.60), "part"),  # the raw cosine flatters
        (attack(0.63, 0.00), "nothing"),
        (attack(0.55, 0.25), "nothing"),  # points the right way, but is less like the record than the mean is
        (attack(0.67, 0.12), "nothing"),  # certainly above 0, by no margin
        (attack(0.98, 0.97, half=0.5), "unclear"),  # the interval reaches down to the mean
        (attack(0.98, 0.97, cases=5), "unclear"),  # no interval for five
        (attack(0.63, 0.00, n=20, cases=20, no_signal=20), "silent"),
    ],
)
def test_grade_needs_both_intervals_above_the_public_mean(figures: ReconstructionResult, expected: str) -> None:
    assert evidence(figures, FLOOR).grade == expected


def test_several_records_must_beat_random_ones_matched_the_same_way() -> None:
    """Hundreds of answers matched to hundreds of records look alike by themselves."""
    matched = attack(0.94, 0.81, n=400, cases=400, half=0.01)
    clear = attack(0.99, 0.97, n=400, cases=400, half=0.01)
    close = attack(0.95, 0.82, n=400, cases=400, half=0.01)
    assert evidence(close, FLOOR | {"public-draw": matched}).grade == "nothing"
    assert evidence(clear, FLOOR | {"public-draw": matched}).grade == "back"
    crowd = arm(attacks={"public-draw": matched, "hrec": close}, deletion={"level": "client", "records": 40})
    assert verdict(crowd).startswith("nothing beyond random public records: hrec has median cosine 0.95 against 0.94")


def test_what_counts_is_deletions_not_their_records() -> None:
    assert evidence(attack(0.98, 0.97, n=900, cases=1), FLOOR).grade == "unclear"


def test_refused_requests_are_named() -> None:
    refused = arm(attacks=hrec(0.98, 0.97), requests_completed=2)
    assert verdict(refused).endswith("1 of 3 requests refused, see the ledger.")


def test_verdicts() -> None:
    given_back = verdict(arm(attacks=hrec(0.98, 0.97)))
    assert given_back == (
        "hrec gives the deleted record back: median cosine 0.98 against 0.63 for the public mean; "
        "accuracy 0.86 -> 0.86."
    )
    assert verdict(arm(attacks=hrec(0.55, 0.02))).startswith(
        "nothing beyond the public mean: hrec has median cosine 0.55"
    )
    assert "one in ten reaches 0.95" in verdict(arm(attacks=hrec(0.55, 0.02, p90=0.95)))
    assert "95 % interval 0.77 to 0.83" in verdict(arm(attacks=hrec(0.80, 0.50)))
    assert verdict(arm(attacks=hrec(0.63, 0.0, n=9, cases=9, no_signal=9))).startswith("nothing to read: ")
    assert ", 7 of 50 without a signal;" in verdict(arm(attacks=hrec(0.98, 0.97, no_signal=7)))
    assert verdict(arm()).startswith("no reconstruction was tried")


def test_verdict_names_what_was_deleted_and_leaves_out_what_was_not_measured() -> None:
    found = hrec(0.98, 0.97)
    several = arm(attacks=found, deletion={"level": "record", "records": 5})
    client = arm(attacks=found, deletion={"level": "client", "records": 40})
    regression = {"metric": "r2", "trained": 0.48, "unlearned": 0.3, "retrained": 0.47}
    assert "gives the deleted records back" in verdict(several)
    assert "gives the client's records back" in verdict(client)
    assert verdict(arm(attacks=found, utility=None)).endswith("for the public mean.")
    assert verdict(arm(attacks=found, utility=regression)).endswith("R2 0.48 -> 0.30 (retrained 0.47).")


def test_the_attack_that_got_most_back_leads() -> None:
    strong, weak = attack(0.99, 0.98), attack(0.80, 0.50)
    assert leading(arm(attacks={"hrec": weak, "raw-difference": strong})) == ("raw-difference", "back")
    assert leading(arm(attacks=hrec(0.97, 0.95) | {"raw-difference": strong})) == ("hrec", "back")


def test_finding_groups_ways_of_unlearning_by_outcome() -> None:
    back, nothing = [arm(attacks=hrec(0.98, 0.97))], [arm(attacks=hrec(0.6, 0.0))]
    assert finding([("ascent", back), ("retraining", nothing), ("downdating", back)]) == (
        "The deleted record comes back after ascent and downdating; no better than the public mean after retraining"
    )
    disagreeing = finding([("ascent", [*back, *nothing])])
    assert disagreeing == "Too few deletions or seeds to tell whether the deleted record comes back after ascent"


def test_headline_names_variants_only_where_they_differ() -> None:
    back, nothing = hrec(0.98, 0.97), hrec(0.6, 0.0)
    found = [("a", "ascent", back), ("b", "ascent", back), ("a", "downdate", back), ("b", "downdate", nothing)]
    arms = [arm(way, attacks, variant=variant) for variant, way, attacks in found]
    assert headline(arms) == (
        "The deleted record comes back after gradient ascent and downdating (a); "
        "no better than the public mean after downdating (b)"
    )


def test_labels_name_what_varies_and_nothing_else() -> None:
    slow, fast = (arm_result(unlearning={"method": "ascent", "learning_rate": r, "steps": 1}) for r in (0.1, 0.5))
    assert label_of(slow, [slow]) == "ascent"
    assert [label_of(each, [slow, fast]) for each in (slow, fast)] == [
        "ascent (learning rate 0.1)",
        "ascent (learning rate 0.5)",
    ]
    noisy = slow.model_copy(update={"defense": Defense(kind="dp-sgd")})
    assert label_of(noisy, [slow, noisy]) == "ascent under dp-sgd"


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_holds_every_verdict(width: int) -> None:
    ways = {"retrain": attack(0.55, 0.0), "ascent": attack(0.98, 0.97), "downdate": attack(0.8, 0.5)}
    arms = [arm(way, {"hrec": found, "max-difference": attack(0.6, 0.05)}) for way, found in ways.items()]
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table(run_results(*arms), width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = " ".join(text.replace("─", " ").split())
    for word in ("nothing beyond", "gives the deleted", "gets part", "max-difference", "0.858"):
        assert word in words


def test_markdown_has_a_row_for_every_attack() -> None:
    text = markdown(run_results(arm("retrain", hrec(0.98, 0.97)), arm("ascent", hrec(0.5, 0.0))))
    assert sum(line.startswith("| ") and "cosine" not in line for line in text.splitlines()) == 4
    assert "- **ascent**: nothing beyond the public mean" in text
