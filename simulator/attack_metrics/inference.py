"""Where ground truth meets answers that are no reconstructions: classes, and scores of given records."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from palimpsest.simulator.attack_metrics.challenge import Status
from palimpsest.simulator.attack_metrics.reconstruction import Truth
from palimpsest.simulator.unlearning_metrics.membership import RATES, detects
from palimpsest.simulator.world.records import Array, Labels, Scores

_RESAMPLES = 1000
_NO_POWER = (
    "withheld: the test does not find members in the model before the unlearning either (AUC {:.2f}), so that its "
    "silence says nothing"
)


# --- classes ---------------------------------------------------------------------------------------------------------


def score_labels(truths: Sequence[Truth], answers: Sequence[Labels]) -> pd.DataFrame:
    """Score inferred classes: a row a case.

    Columns: case; size; label_share, the share of the deleted records' classes that the answer has too, as multisets;
    class_correct, whether the class with the largest evidence is the one deleted most (any of them, on a tie);
    no_signal.
    """
    rows = []
    for truth, answer in zip(truths, answers, strict=True):
        outputs = len(answer.evidence)
        true = np.bincount(truth.y.astype(np.int64), minlength=outputs)
        said = np.bincount(answer.y.astype(np.int64), minlength=outputs)
        rows.append(
            {
                "case": truth.case,
                "size": len(truth.y),
                "label_share": np.minimum(true, said).sum() / len(truth.y),
                "class_correct": float(true[int(answer.evidence.argmax())] == true.max()),
                "no_signal": answer.no_signal,
            }
        )
    return pd.DataFrame(rows)


def summarise_labels(
    frame: pd.DataFrame, truths: Sequence[Truth], public_y: Array, rng: np.random.Generator
) -> dict[str, Any]:
    """The figures of one attack on classes; ``_prior`` is what the public sample's most common class scores."""
    common = np.bincount(np.asarray(public_y).astype(np.int64)).argmax()
    prior = [float((truth.y == common).mean()) for truth in truths]
    return {
        "kind": "labels",
        "n": int(frame["size"].sum()),
        "cases": len(frame),
        "label_accuracy": float(np.average(frame["label_share"], weights=frame["size"])),
        "label_accuracy_prior": float(np.average(prior, weights=frame["size"])),
        "class_accuracy": float(frame["class_correct"].mean()),
        "class_accuracy_ci95": _interval([frame["class_correct"].to_numpy(np.float64)[:, None]], rng),
        "no_signal": int(frame["no_signal"].sum()),
    }


# --- scores of given records -----------------------------------------------------------------------------------------


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
            own = answer.deleted[entry]
            ties = int((held == own).sum())
            rank = 1 + int((held > own).sum()) + int(rng.integers(0, ties, endpoint=True))
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
    retained ones in their place.

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
        "negatives": int((status == Status.HELD_OUT).sum()),
        "no_signal": int(frame["no_signal"].sum()),
        "membership_auc_trained": float(frame["share_before"].mean()),
        **_at_low_rates("membership_", "_trained", status, answers, "member_before"),
    }
    powerful = detects(by_case["share_before"])
    figures["membership_valid"] = powerful
    reason = _NO_POWER.format(figures["membership_auc_trained"])
    if powerful:
        figures["membership_auc"] = float(frame["share_after"].mean())
        figures |= _at_low_rates("membership_", "", status, answers, "member_after")
    else:
        figures["membership_withheld"] = reason
    if not (powerful or detects(by_case["share"])):
        return {**figures, "withheld": reason}
    figures |= {"auc": float(frame["share"].mean()), "auc_ci95": _interval(by_case["share"], rng)}
    figures |= _at_low_rates("", "", status, answers, "deleted")
    retained = _pooled(status, answers, "deleted", Status.RETAINED)
    if len(retained):
        own = _pooled(status, answers, "deleted", Status.DELETED)
        figures["auc_retained"] = float(_shares(own, retained).mean())
    return figures


_SHARES = ("share", "share_before", "share_after")


def _pooled(status: NDArray[np.int64], answers: Sequence[Scores], field: str, which: Status) -> Array:
    """Ascending scores of all cases' records of one status."""
    chosen = [getattr(one, field)[row == which] for one, row in zip(answers, status, strict=True)]
    return np.sort(np.concatenate(chosen))


def _shares(values: Array, ascending: Array) -> Array:
    """Share of ``ascending`` below each value, ties counted half; the mean over positives is the area under the ROC."""
    below = np.searchsorted(ascending, values, "left") + np.searchsorted(ascending, values, "right")
    shares: Array = below / (2.0 * len(ascending))
    return shares


def _at_low_rates(
    prefix: str, suffix: str, status: NDArray[np.int64], answers: Sequence[Scores], field: str
) -> dict[str, float]:
    """True positive rates at low false positive rates; rates below one record in all held-out ones are absent."""
    positive, negative = (_pooled(status, answers, field, which) for which in (Status.DELETED, Status.HELD_OUT))
    truth = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    from sklearn.metrics import roc_curve  # takes a second to import, and few runs need it

    false, true, _ = roc_curve(truth, np.concatenate([positive, negative]), drop_intermediate=False)
    return {
        f"{prefix}{name}{suffix}": float(true[np.searchsorted(false, rate, "right") - 1])
        for name, rate in RATES.items()
        if rate * len(negative) >= 1.0
    }


def _interval(by_case: Sequence[Array], rng: np.random.Generator) -> list[float]:
    """95 % percentile interval of the mean over all records, cases resampled."""
    sums, sizes = np.array([one.sum() for one in by_case]), np.array([one.size for one in by_case])
    draws = rng.integers(0, len(sums), (_RESAMPLES, len(sums)))
    low, high = np.percentile(sums[draws].sum(axis=1) / sizes[draws].sum(axis=1), [2.5, 97.5])
    return [float(low), float(high)]
