"""Answers that are classes: which classes were deleted?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from palimpsest.simulator.attack_metrics.card import (
    AnswerCard,
    AttackAnswers,
    Material,
    OnCase,
    Scored,
    Truth,
    class_name,
    counted,
)
from palimpsest.simulator.results.intervals import share_interval
from palimpsest.simulator.world.records import Array, Labels
from palimpsest.simulator.world.specs import Schema


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


def summarise_labels(frame: pd.DataFrame, truths: Sequence[Truth], public_y: Array) -> dict[str, Any]:
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
        "class_accuracy_ci95": list(share_interval(float(frame["class_correct"].mean()), len(frame))),
        "no_signal": int(frame["no_signal"].sum()),
    }


def _score(attempt: AttackAnswers[Labels], material: Material) -> Scored:
    frame = score_labels(material.truths, attempt.guesses)
    return Scored(frame, summarise_labels(frame, material.truths, material.knowledge.y))


def _lines(guess: Labels, schema: Schema) -> list[str]:
    """The classes of one deletion, with how many records of each."""
    classes, counts = np.unique(guess.y.astype(int), return_counts=True)
    said = ", ".join(
        f"{class_name(int(label), schema)}" + (f" ({count} times)" if count > 1 else "")
        for label, count in zip(classes, counts, strict=True)
    )
    return [f"deletion {guess.case}: class {said}" + (", no signal" if guess.no_signal else "")]


def _on_case(rows: pd.DataFrame) -> OnCase:
    return OnCase("share of classes", float(rows["label_share"].iloc[0]))


def _inferred(guess: Labels, schema: Schema) -> str:
    return counted(guess.y.astype(np.int64), schema)


CARD = AnswerCard(Labels, _score, lines=_lines, on_case=_on_case, inferred=_inferred)
