"""What figures show, when cosines alone say too little or too much, and how many deletions would settle it."""

from typing import Any

import pytest

from palimpsest.simulator.results.attack_results import ReconstructionResult
from palimpsest.simulator.results.evidence import Evidence, Floors, evidence, together
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import finding, verdict
from tests.support.entries import arm_result, reconstruction


def attack(raw: float, centred: float, half: float = 0.03, **changes: Any) -> ReconstructionResult:
    return ReconstructionResult.model_validate(
        reconstruction(raw, centred, half, **{"label_accuracy": None, **changes})
    )


def gain(raw: float, centred: float, half: float) -> dict[str, Any]:
    """Gains over the public mean with intervals of ``half`` either side."""
    return {
        "average": {
            "cosine": raw, "cosine_ci95": [raw - half, raw + half],
            "cosine_centred": centred, "cosine_centred_ci95": [centred - half, centred + half],
        }
    }  # fmt: skip


AVERAGE = attack(0.63, 0.0, half=0.1)
FLOOR: Floors = {"average": AVERAGE}


def arm(figures: ReconstructionResult, records: int = 1, seed: int = 0) -> ArmResult:
    return arm_result(
        attacks={"average": AVERAGE, "hrec": figures}, deletion={"level": "record", "records": records}, seed=seed
    )


def test_the_same_record_tells_where_records_differ_more_than_answers_do() -> None:
    """The public mean's interval reaches beyond the attack's; the difference for the same record does not reach 0."""
    assert evidence(attack(0.70, 0.4), FLOOR).grade == "nothing"
    paired = attack(0.70, 0.4, resampled="deletion", gain_over=gain(0.07, 0.4, 0.02))
    assert evidence(paired, FLOOR) == Evidence("part")
    assert "(+0.07 for the same record, 95 % interval +0.05 to +0.09)" in verdict(arm(paired))


def test_records_picked_out_speak_where_cosines_do_not() -> None:
    """Top-1 of 0.58 among 501, of which the verdict said that deletions were too few."""
    wide = {"resampled": "deletion", "gain_over": gain(0.05, 0.4, 0.3), "half": 0.3, "cases": 12, "n": 12}
    assert evidence(attack(0.68, 0.4, **wide), FLOOR).grade == "unclear"
    named = attack(0.68, 0.4, **wide, top1_of_1000=7 / 12, candidates=501)
    assert evidence(named, FLOOR) == Evidence("part", "top1")
    assert "it picks 58 % of records out of 501 (95 % interval 28 % to 85 %, chance 0.2 %)" in verdict(arm(named))
    assert evidence(attack(0.68, 0.4, **wide, top1_of_1000=1 / 12, candidates=501), FLOOR).grade == "unclear"


def test_right_classes_speak_and_granted_or_common_ones_do_not() -> None:
    wide = {"resampled": "deletion", "gain_over": gain(0.05, 0.4, 0.3), "half": 0.3}
    right = attack(0.68, 0.4, **wide, label_accuracy=0.9, label_prior=0.2)
    assert evidence(right, FLOOR) == Evidence("part", "label")
    assert "the class is right for 90 % of records (a guess: 20 %)" in verdict(arm(right))
    granted = {"average": attack(0.63, 0.0, half=0.1, label_accuracy=1.0)}
    assert evidence(right, granted).grade == "unclear"
    assert evidence(attack(0.68, 0.4, **wide, label_accuracy=0.9, label_prior=0.85), FLOOR).grade == "unclear"
    nothing = attack(0.55, 0.0, resampled="deletion", label_accuracy=0.9, label_prior=0.2)
    assert "nothing beyond the public mean" in verdict(arm(nothing))
    assert "yet the class is right for 90 % of records" in verdict(arm(nothing))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cosine_centred_p10": 0.06}, "yet for one in ten the centred cosine is at most 0.06"),
        ({"top1_of_1000": 0.3, "candidates": 1000}, "yet only 30 % can be picked out of 1,000"),
        ({"label_accuracy": 0.2}, "yet the class is right for only 20 %"),
    ],
)
def test_records_are_back_only_where_most_of_them_are(changes: dict[str, Any], words: str) -> None:
    assert evidence(attack(0.98, 0.97), FLOOR).grade == "back"
    said = verdict(arm(attack(0.98, 0.97, **changes), records=20))
    assert "hrec gets part of the deleted records" in said
    assert words in said


def test_the_records_of_one_request_are_compared_and_the_verdict_says_so() -> None:
    figures = attack(0.98, 0.97, n=20, cases=1, resampled="record", gain_over=gain(0.35, 0.97, 0.03))
    assert evidence(figures, FLOOR) == Evidence("back", compared="record")
    said = verdict(arm(figures, records=20))
    assert "(among 20 records of 1 deletion; 6 deletions or seeds would tell of others)" in said
    title = finding([("ascent", [arm(figures, records=20)])])
    assert title == "The deleted records come back after ascent (1 deletion)"
    assert evidence(attack(0.98, 0.97, n=20, cases=1), FLOOR).grade == "unclear", "of an older run: no interval"


def test_no_interval_is_said_of_a_single_deletion_and_the_number_that_settles_it_is() -> None:
    alone = verdict(arm(attack(0.64, 0.4, half=0.0, n=1, cases=1)))
    assert "interval" not in alone
    assert "too few deletions to tell (1): hrec has median cosine 0.64" in alone
    assert "; at least 6 deletions, of this seed or of several, would settle it" in alone
    wide = attack(0.73, 0.4, resampled="deletion", gain_over=gain(0.1, 0.4, 0.2), n=10, cases=10)
    assert evidence(wide, FLOOR) == Evidence("unclear", needed=40)  # twice as narrow
    assert "; about 40 deletions" in verdict(arm(wide))


def test_seeds_are_clusters() -> None:
    """Six seeds of one deletion each settle what one does not; six that disagree do not."""
    alone = {"n": 1, "cases": 1, "half": 0.0}
    agreeing = [attack(0.95 + 0.005 * seed, 0.9, **alone) for seed in range(6)]
    assert {evidence(one, FLOOR).grade for one in agreeing} == {"unclear"}
    floors = [{"average": attack(0.6, 0.0, **alone)}] * 6
    assert together(agreeing, floors).grade == "back"
    assert together(agreeing[:1], floors[:1]).grade == "unclear"
    disagreeing = [attack(0.98, 0.97, **alone), attack(0.3, -0.2, **alone)] * 3
    assert together(disagreeing, floors).grade == "unclear"
    title = finding([("ascent", [arm(one, seed=seed) for seed, one in enumerate(agreeing)])])
    assert title == "The deleted record comes back after ascent"


def test_a_title_says_no_more_than_the_verdicts_of_its_seeds() -> None:
    back, part = attack(0.98, 0.97), attack(0.8, 0.5)
    assert "in part after ascent" in finding([("ascent", [arm(back), arm(part, seed=1)])])
    named = arm(attack(0.98, 0.97, n=2, cases=2, top1_of_1000=1.0, candidates=1000))
    assert finding([("ascent", [named])]) == "The deleted record comes back in part after ascent (2 deletions)"
    assert "(2 deletions; 6 deletions or seeds would tell how much)" in verdict(named)
    few = attack(0.98, 0.97, n=2, cases=2)
    assert finding([("ascent", [arm(few)])]).startswith("Too few deletions or seeds to tell whether")
