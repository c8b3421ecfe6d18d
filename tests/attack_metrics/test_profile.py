"""How profiles are scored, said and kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.attacks.session import Answer, Cost
from palimpsest.simulator.attack_metrics.answers import answer_card
from palimpsest.simulator.attack_metrics.card import Material, Truth
from palimpsest.simulator.attack_metrics.score import score_answer
from palimpsest.simulator.results.answers import load_answers, save_answers
from palimpsest.simulator.results.attack_results import ProfileResult
from palimpsest.simulator.results.inference_verdicts import inferred, row_of
from palimpsest.simulator.testing.transcripts import breast_cancer
from palimpsest.simulator.world.profile import Profile
from palimpsest.simulator.world.records import Array

DATA = breast_cancer()
KNOWLEDGE = DATA.knowledge(DATA.spec("ridge", 1.0))
ROWS = [list(range(20)), list(range(20, 50))]


def truths() -> list[Truth]:
    return [Truth(i, DATA.x[rows], DATA.y[rows].astype(float)) for i, rows in enumerate(ROWS)]


def said(case: int, counts: Array, means: Array, columns: Array, width: float = 0.0, silent: bool = False) -> Profile:
    ends = [part for value in (counts, means, columns) for part in (value, value - width, value + width)]
    return Profile(case, *ends, no_signal=silent)


def perfect(case: int) -> Profile:
    x, y = DATA.x[ROWS[case]], DATA.y[ROWS[case]]
    means = np.stack([x[y == label].mean(axis=0) for label in (0, 1)])
    return said(case, np.bincount(y, minlength=2).astype(float), means, x.mean(axis=0))


def public(case: int, silent: bool = False) -> Profile:
    x, y = DATA.public_x, DATA.public_y
    counts = np.bincount(y, minlength=2) / len(y) * len(ROWS[case])
    return said(case, counts, np.stack([x[y == label].mean(axis=0) for label in (0, 1)]), x.mean(axis=0), silent=silent)


def figures(guesses: list[Profile]) -> dict[str, Any]:
    material = Material(truths(), KNOWLEDGE, np.empty((0, 30)), None, 0)
    return score_answer("client-profile", Answer(guesses, Cost(0.1, 0)), material).figures


def result(guesses: list[Profile]) -> ProfileResult:
    return ProfileResult.model_validate(figures(guesses))


def test_the_truth_scores_best_and_the_public_sample_scores_as_the_prior_does() -> None:
    best, worst = figures([perfect(0), perfect(1)]), figures([public(0), public(1)])
    assert best["total_variation_median"] == best["count_error_median"] == 0.0
    assert best["column_error_median"] == pytest.approx(0.0)
    assert best["mean_likeness_median"] == pytest.approx(1.0)
    assert best["counts_covered"] == best["means_covered"] == best["columns_covered"] == 1.0
    for name in ("total_variation", "count_error", "mean_likeness", "column_error"):
        assert worst[f"{name}_median"] == pytest.approx(worst[f"{name}_prior_median"])
        assert best[f"{name}_prior_median"] == worst[f"{name}_prior_median"]
    assert worst["counts_covered"] == 0.0
    assert (best["kind"], best["n"], best["cases"]) == ("profile", 50, 2)


def test_columns_are_compared_in_standard_deviations_whatever_their_units() -> None:
    statistics = {"mean": [100.0] * 30, "scale": [10.0] * 30}
    facts = KNOWLEDGE.facts.model_copy(update={"preprocessing": statistics})
    knowledge = type(KNOWLEDGE)(facts, KNOWLEDGE.x, KNOWLEDGE.y, KNOWLEDGE.box_low, KNOWLEDGE.box_high)
    moved = [said(i, p.counts, p.means, p.columns * 10.0 + 100.0) for i, p in enumerate((perfect(0), perfect(1)))]
    material = Material(truths(), knowledge, np.empty((0, 30)), None, 0)
    scored = score_answer("client-profile", Answer(moved, Cost(0.1, 0)), material).figures
    assert scored["column_error_median"] == pytest.approx(0.0)
    assert scored["columns_covered"] == 1.0


def test_the_verdict_says_what_was_told_and_when_nothing_was() -> None:
    told, untold = result([perfect(0), perfect(1)]), result([public(0), public(1)])
    silent = result([public(0, silent=True), public(1, silent=True)])
    [sentence] = inferred({"client-profile": told})
    assert sentence.startswith("client-profile tells a leaver's label histogram to within 0.00 in total variation")
    assert "hold 100 % of the counts" in sentence
    assert "no more of a leaver's label histogram" in inferred({"client-profile": untold})[0]
    assert "did not change" in inferred({"client-profile": silent})[0]
    row = row_of(told)
    assert row.success == 1.0
    assert 0.0 < row.chance < 1.0


def test_profiles_are_kept_and_shown(tmp_path: Path) -> None:
    guesses = [perfect(0), public(1, silent=True)]
    save_answers(tmp_path / "answers.safetensors", {"client-profile": Answer(guesses, Cost(0.1, 0))})
    again = load_answers(tmp_path / "answers.safetensors")["client-profile"]
    for one, other in zip(guesses, again, strict=True):
        assert isinstance(other, Profile)
        assert (one.case, one.no_signal) == (other.case, other.no_signal)
        assert np.array_equal(one.means_high, other.means_high)
    first = answer_card("profile").lines(guesses[0], DATA.schema)[0]
    assert first.startswith("deletion 0: of 20 records ")
    assert "no signal" in answer_card("profile").lines(guesses[1], DATA.schema)[0]
