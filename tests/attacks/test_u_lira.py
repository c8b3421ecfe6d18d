"""Shadows with a record, without it, and that unlearned it: what they tell of the deleted, and of those who stay."""

from functools import cache

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from palimpsest.attacks.session import answer
from palimpsest.attacks.u_lira import ULira
from palimpsest.simulator.attack_metrics.challenge import Status
from palimpsest.simulator.attack_metrics.scores import score_challenge, summarise_scores
from palimpsest.simulator.testing.transcripts import challenged, digits, forgetting
from palimpsest.simulator.world.records import Array, Scores
from palimpsest.simulator.world.seeding import generator

COUNT = 30


@cache
def overfitted() -> tuple[list[Scores], Array]:
    """Answers to single deletions from ridge on fewer records than it has columns, and the challenge's solution."""
    data = digits(private=60, public=600)
    spec = data.spec("ridge", 0.1)
    rows = [[row] for row in range(COUNT)]
    knowledge, solution = challenged(data.knowledge(spec), data, rows)
    stay = np.where(solution < 0, Status.HELD_OUT, Status.RETAINED)
    status = np.stack([np.where(np.isin(solution, one), Status.DELETED, stay) for one in rows])
    found = answer(ULira(), forgetting(data, spec, rows), knowledge).guesses
    return [one for one in found if isinstance(one, Scores)], status.astype(np.int64)


def pooled(field: str, positive: Status, negative: Status = Status.HELD_OUT) -> float:
    """Area under the curve of one score, by scikit-learn."""
    answers, status = overfitted()
    values = np.concatenate([getattr(one, field) for one in answers])
    asked = np.isin(status.ravel(), (positive, negative))
    return float(roc_auc_score(status.ravel()[asked] == positive, values[asked]))


def test_deleted_records_are_told_from_those_that_stay_and_those_that_never_were() -> None:
    assert pooled("deleted", Status.DELETED) > 0.9
    assert pooled("deleted", Status.DELETED, Status.RETAINED) > 0.9


def test_members_are_found_before_and_nothing_is_left_of_them_after_an_exact_deletion() -> None:
    assert pooled("member_before", Status.DELETED) > 0.8
    assert pooled("member_after", Status.DELETED) == pytest.approx(0.5, abs=0.15)


def test_those_who_stay_are_told_from_those_who_never_were() -> None:
    answers, status = overfitted()
    assert pooled("retained", Status.RETAINED) > 0.8
    frame = score_challenge(status, answers, generator(0, "ties"))
    figures = summarise_scores(frame, status, answers, generator(0, "bootstrap"))
    assert figures["retained_auc"] == pytest.approx(pooled("retained", Status.RETAINED))
    assert figures["retained_auc_before"] == pytest.approx(pooled("member_before", Status.RETAINED))


def test_nothing_is_said_of_those_who_stay_where_nobody_does() -> None:
    answers, status = overfitted()
    nobody = np.where(status == Status.RETAINED, Status.GONE, status)
    frame = score_challenge(nobody, answers, generator(0, "ties"))
    assert "retained_auc" not in summarise_scores(frame, nobody, answers, generator(0, "bootstrap"))


def test_answers_survive_their_file() -> None:
    answers, _ = overfitted()
    for one, other in zip(answers, Scores.unpack(Scores.pack(answers)), strict=True):
        assert one.retained is not None
        np.testing.assert_array_equal(one.retained, other.retained)
