"""Answers that score given records: which of them were deleted, and which were trained on?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from palimpsest.simulator.attack_metrics.card import AnswerCard, AttackAnswers, Material, OnCase, Scored
from palimpsest.simulator.attack_metrics.challenge import Status
from palimpsest.simulator.attack_metrics.rates import Separation
from palimpsest.simulator.unlearning_metrics.membership import detects
from palimpsest.simulator.world.records import Array, Scores
from palimpsest.simulator.world.specs import Schema

_SHOWN = 4
_NO_POWER = (
    "withheld: the test does not find members in the model before the unlearning either (AUC {:.2f}), so that its "
    "silence says nothing"
)


def score_challenge(status: NDArray[np.int64], answers: Sequence[Scores], rng: np.random.Generator) -> pd.DataFrame:
    """Score what was said of given records: a row for each deleted record.

    Columns: case; rank, 1 + how many held-out records the answer takes for deleted rather (ties broken at random), and
    candidates, these and the true one; share, the share of all cases'
    held-out records that score lower, ties counted half; share_before and share_after, the same for the membership of
    single models; no_signal.
    """
    columns = {"share": "deleted", "share_before": "member_before", "share_after": "member_after"}
    given = {name: field for name, field in columns.items() if getattr(answers[0], field) is not None}
    others = {name: _pooled(status, answers, field, Status.HELD_OUT) for name, field in given.items()}
    rows = []
    for case, answer in enumerate(answers):
        held = answer.deleted[status[case] == Status.HELD_OUT]
        for entry in np.flatnonzero(status[case] == Status.DELETED):
            scores = answer.deleted[entry]
            ties = int((held == scores).sum())
            rank = 1 + int((held > scores).sum()) + int(rng.integers(0, ties, endpoint=True))
            row: dict[str, Any] = {"case": answer.case, "rank": rank}
            for name, field in given.items():
                row[name] = float(_shares(getattr(answer, field)[[entry]], others[name])[0])
            rows.append({**row, "candidates": len(held) + 1, "no_signal": answer.no_signal})
    return pd.DataFrame(rows)


def summarise_matching(frame: pd.DataFrame) -> dict[str, Any]:
    """The figures of an attack that picks the deleted record out of candidates."""
    tenth, middle, ninetieth = np.percentile(frame["rank"], [10, 50, 90])
    return {
        "kind": "matching",
        "n": len(frame),
        "cases": int(frame["case"].nunique()),
        "top1_of_1000": float((frame["rank"] == 1).mean()),
        "rank_median": float(middle),
        "rank_p10": float(tenth),
        "rank_p90": float(ninetieth),
        "candidates": int(frame["candidates"].iloc[0]),
        "no_signal": int(frame["no_signal"].sum()),
    }


def summarise_scores(
    frame: pd.DataFrame, status: NDArray[np.int64], answers: Sequence[Scores], rng: np.random.Generator
) -> dict[str, Any]:
    """The figures of an attack that tells deleted records from others.

    First its power on the model before (``membership_auc_trained``). Where it has none, what it says of the model after
    is withheld, and so is what both models together say, unless that is above chance by itself: a finding needs no
    proof that the test can find, silence does. False positives are held-out records, and ``auc_retained`` has the
    retained ones in their place; see ``_of_retained`` for those who stay.

    Args:
        frame: what ``score_challenge`` returned, with at least one row.
        status: the solution of the challenge.
        answers: one a case, with membership scores.
        rng: draws the resamples.
    """
    by_case = {name: [rows.to_numpy() for _, rows in frame.groupby("case")[name]] for name in _SHARES if name in frame}
    figures: dict[str, Any] = {
        "kind": "scores",
        "n": len(frame),
        "cases": int(frame["case"].nunique()),
        "negatives": int((status[0] == Status.HELD_OUT).sum()),
        "no_signal": int(frame["no_signal"].sum()),
        "membership_auc_trained": float(frame["share_before"].mean()),
        **Separation.of(status, answers, "member_before", rng).at_low_rates("membership_", "_trained"),
        **_of_retained(status, answers),
    }
    powerful = detects(by_case["share_before"])
    figures["membership_valid"] = powerful
    reason = _NO_POWER.format(figures["membership_auc_trained"])
    if powerful:
        figures["membership_auc"] = float(frame["share_after"].mean())
        figures |= Separation.of(status, answers, "member_after", rng).at_low_rates("membership_", "")
    else:
        figures["membership_withheld"] = reason
    if not (powerful or detects(by_case["share"])):
        return {**figures, "withheld": reason}
    separation, area = Separation.of(status, answers, "deleted", rng), float(frame["share"].mean())
    interval = separation.area()
    figures |= {"auc": area} | ({} if interval is None else {"auc_ci95": interval}) | separation.at_low_rates("", "")
    retained = _pooled(status, answers, "deleted", Status.RETAINED)
    if len(retained):
        deleted = _pooled(status, answers, "deleted", Status.DELETED)
        figures["auc_retained"] = float(_shares(deleted, retained).mean())
    return figures


def _of_retained(status: NDArray[np.int64], answers: Sequence[Scores]) -> dict[str, float]:
    """How well records that stay are told from held-out ones; empty where nobody stays, or the attack does not say.

    ``retained_auc`` by both models, ``retained_auc_before`` by the model before alone: what the former is above the
    latter, the deletion of others exposed.
    """
    if answers[0].retained is None or not (status == Status.RETAINED).any():
        return {}
    fields = {"retained_auc": "retained", "retained_auc_before": "member_before"}
    return {
        name: float(
            _shares(
                _pooled(status, answers, field, Status.RETAINED), _pooled(status, answers, field, Status.HELD_OUT)
            ).mean()
        )
        for name, field in fields.items()
    }


_SHARES = ("share", "share_before", "share_after")


def _pooled(status: NDArray[np.int64], answers: Sequence[Scores], field: str, which: Status) -> Array:
    """Ascending scores of all cases' records of one status."""
    chosen = [getattr(answer, field)[row == which] for answer, row in zip(answers, status, strict=True)]
    return np.sort(np.concatenate(chosen))


def _shares(values: Array, ascending: Array) -> Array:
    """Share of ``ascending`` below each value, ties counted half; the mean over positives is the area under the ROC."""
    below = np.searchsorted(ascending, values, "left") + np.searchsorted(ascending, values, "right")
    shares: Array = below / (2.0 * len(ascending))
    return shares


def _score(attempt: AttackAnswers[Scores], material: Material) -> Scored:
    """By membership too where the attack says something of it, else as a match of the deleted record alone."""
    status, guesses = material.status, attempt.guesses
    assert status is not None  # a challenge was posed, or there would be no scores
    frame = score_challenge(status, guesses, attempt.draws)
    if guesses[0].member_before is None:
        return Scored(frame, summarise_matching(frame))
    return Scored(frame, summarise_scores(frame, status, guesses, attempt.bootstrap))


def _lines(guess: Scores, schema: Schema) -> list[str]:
    """The entries of the challenge that a deletion most likely took away."""
    first = ", ".join(str(entry) for entry in np.argsort(-guess.deleted, kind="stable")[:_SHOWN])
    said = "no signal" if guess.no_signal else f"most likely of {len(guess.deleted)} challenged records: {first}"
    return [f"deletion {guess.case}: {said}"]


def _on_case(rows: pd.DataFrame) -> OnCase:
    return OnCase("AUC", float(rows["share"].mean()), 0.5)


def _inferred(guess: Scores, schema: Schema) -> str:
    return f"a score of each of {len(guess.deleted):,} records"


CARD = AnswerCard(Scores, _score, lines=_lines, on_case=_on_case, inferred=_inferred)
