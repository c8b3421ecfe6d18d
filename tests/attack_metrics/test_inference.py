"""Scoring of classes and of given records: figures counted by hand, chance, and a gate that holds silence back."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from palimpsest.attacks import CARDS
from palimpsest.attacks.session import answer
from palimpsest.simulator.attack_metrics.card import Truth
from palimpsest.simulator.attack_metrics.challenge import Status
from palimpsest.simulator.attack_metrics.labels import score_labels, summarise_labels
from palimpsest.simulator.attack_metrics.scores import score_challenge, summarise_matching, summarise_scores
from palimpsest.simulator.results.attack_results import ScoresResult
from palimpsest.simulator.results.inference_verdicts import inferred
from palimpsest.simulator.testing.chance import Deletions, chance_of, check_chance
from palimpsest.simulator.world.records import Labels, Scores
from palimpsest.simulator.world.seeding import generator
from tests.attacks.test_contract import attack
from tests.support.entries import inference


def truth(case: int, labels: list[int]) -> Truth:
    return Truth(case, np.zeros((len(labels), 2)), np.array(labels, float))


def said(case: int, labels: list[int], best: int) -> Labels:
    return Labels(case, np.array(labels, float), np.eye(10)[best])


def test_classes_are_counted_as_multisets() -> None:
    truths = [truth(0, [3, 3, 5]), truth(1, [7])]
    frame = score_labels(truths, [said(0, [3, 5, 5], 3), said(1, [2], 2)])
    assert frame["label_share"].tolist() == pytest.approx([2 / 3, 0.0])
    assert frame["class_correct"].tolist() == [1.0, 0.0]
    figures = summarise_labels(frame, truths, np.array([3, 3, 7]))
    assert figures["label_accuracy"] == pytest.approx(2 / 4)
    assert figures["label_accuracy_prior"] == pytest.approx(2 / 4)  # always 3
    assert figures["class_accuracy"] == pytest.approx(0.5)
    exact = binomtest(1, 2).proportion_ci(0.95, method="exact")
    assert figures["class_accuracy_ci95"] == pytest.approx([exact.low, exact.high])


def test_areas_and_rates_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    status = np.full((20, 120), Status.HELD_OUT)
    for case in range(20):
        status[case, :20] = Status.RETAINED
        status[case, case] = Status.DELETED
    answers = []
    for case in range(20):
        value = rng.standard_normal(120) + 1.5 * (status[case] == Status.DELETED)
        answers.append(Scores(case, np.round(value, 1), value, rng.standard_normal(120)))
    frame = score_challenge(status, answers, generator(0, "ties"))
    figures = summarise_scores(frame, status, answers, generator(0, "bootstrap"))
    kept = status != Status.RETAINED
    values = np.stack([one.deleted for one in answers])[kept]
    assert figures["auc"] == pytest.approx(roc_auc_score((status == Status.DELETED)[kept], values))
    highest = np.sort(values[(status == Status.HELD_OUT)[kept]])[::-1]
    allowed = highest[int(0.01 * len(highest))]  # at most one in a hundred lies strictly above
    own = np.array([one.deleted[case] for case, one in enumerate(answers)])
    assert figures["tpr_at_1_percent"] == pytest.approx((own > allowed).mean())
    for case, one in enumerate(answers):
        held = one.deleted[status[case] == Status.HELD_OUT]
        assert (held > own[case]).sum() < frame["rank"][case] <= 1 + (held >= own[case]).sum()


def _areas(held_out: int, cases: int = 30) -> dict[str, Any]:
    """Figures of a test that is some way above chance, on the same deletions and so many held-out records."""
    rng = np.random.default_rng(2)
    own, scores = rng.standard_normal((cases, cases)) + 1.0, rng.standard_normal(1000)
    status = np.full((cases, cases + held_out), Status.HELD_OUT)
    status[:, :cases] = Status.RETAINED
    status[np.arange(cases), np.arange(cases)] = Status.DELETED
    values = np.concatenate([own, np.tile(scores[:held_out], (cases, 1))], axis=1)
    answers = [Scores(case, row, row + 1.0, row) for case, row in enumerate(values)]
    frame = score_challenge(status, answers, generator(0, "ties"))
    return summarise_scores(frame, status, answers, generator(0, "bootstrap"))


def test_held_out_records_are_counted_once_and_resampled() -> None:
    """Every case scores the same ones: fewer of them widen the interval, more cases make no more of them."""
    few, many = _areas(10), _areas(1000)
    assert (few["negatives"], many["negatives"]) == (10, 1000)
    widths = [high - low for low, high in (few["auc_ci95"], many["auc_ci95"])]
    assert widths[0] > 1.3 * widths[1]
    assert "tpr_at_1_percent" not in few
    assert "tpr_at_01_percent" in many
    assert "tpr_at_01_percent" not in _areas(999)


def test_rates_have_intervals_that_are_such_even_for_a_single_deletion() -> None:
    low, high = _areas(1000)["tpr_at_1_percent_ci95"]
    assert 0.0 <= low < _areas(1000)["tpr_at_1_percent"] < high < 1.0
    alone = _areas(1000, cases=1)
    assert "auc_ci95" not in alone
    assert np.diff(alone["membership_tpr_at_1_percent_trained_ci95"]) > 0.9


def test_silence_without_power_is_withheld_and_a_finding_is_not() -> None:
    """A test that sees no member before the unlearning says nothing by seeing none after it."""
    rng = np.random.default_rng(1)
    status = np.full((30, 230), Status.HELD_OUT)
    status[:, :30] = Status.RETAINED
    status[np.arange(30), np.arange(30)] = Status.DELETED

    def figures(before: float, both: float) -> dict[str, Any]:
        own = status == Status.DELETED
        drawn = [rng.standard_normal((3, 230)) for _ in range(30)]
        answers = [
            Scores(case, one[0] + both * own[case], one[1] + before * own[case], one[2])
            for case, one in enumerate(drawn)
        ]
        frame = score_challenge(status, answers, generator(0, "ties"))
        return summarise_scores(frame, status, answers, generator(0, "bootstrap"))

    blind, finding, powerful = figures(0.0, 0.0), figures(0.0, 5.0), figures(5.0, 0.0)
    assert "auc" not in blind
    assert "membership_auc" not in blind
    assert "does not find members in the model before" in blind["withheld"]
    assert "withheld" in inferred({"deletion-lira": ScoresResult.model_validate({**inference("scores"), **blind})})[0]
    assert finding["auc"] > 0.9
    assert "membership_withheld" in finding
    assert "membership_auc" not in finding
    assert powerful["auc"] == pytest.approx(0.5, abs=0.15)
    assert powerful["membership_auc"] == pytest.approx(0.5, abs=0.15)


INFERENCES = [
    name for name, card in CARDS.items() if card.promises in ("labels", "scores") and "messages" not in card.needs
]
"""All but the server's own: these releases come without messages."""


@pytest.mark.parametrize("name", INFERENCES)
def test_exact_deletions_are_seen_and_a_change_that_is_no_deletion_is_not(name: str) -> None:
    """Chance is 0.1 for classes and 0.5 for areas: what is left of each attack when noise takes the signal's place."""
    check_chance(name)
    deletions, (chance, deviation) = Deletions.under(10.0), chance_of(name)
    assert deletions.success(name, deletions.cases) > chance + 5 * deviation


def test_an_attack_that_is_not_at_chance_on_noise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deletions, "without_signal", lambda deletions: list(deletions.cases))
    with pytest.raises(AssertionError, match=r"class-score: success .* on noise, where chance is 0.1"):
        check_chance("class-score")


def test_candidates_of_ridge_are_told_apart() -> None:
    deletions = Deletions.under(10.0)
    cases, knowledge, status = deletions.cases, deletions.knowledge, deletions.status
    scores = [one for one in answer(attack("candidate-match"), cases, knowledge).guesses if isinstance(one, Scores)]
    figures = summarise_matching(score_challenge(status, scores, generator(0, "ties")))
    assert figures["candidates"] == 201
    assert figures["top1_of_1000"] >= 0.95


def test_where_the_model_generalises_membership_is_withheld_and_deletion_is_still_seen() -> None:
    """Strongly regularised ridge: no single model tells its members, two of them tell the deleted one."""
    deletions = Deletions.under(1000.0)
    cases, knowledge, status = deletions.cases, deletions.knowledge, deletions.status
    answers = [one for one in answer(attack("deletion-lira"), cases, knowledge).guesses if isinstance(one, Scores)]
    frame = score_challenge(status, answers, generator(0, "ties"))
    figures = summarise_scores(frame, status, answers, generator(0, "bootstrap"))
    assert not figures["membership_valid"]
    assert "membership_auc" not in figures
    assert "membership_withheld" in figures
    assert figures["auc"] > 0.9
