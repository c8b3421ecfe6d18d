"""Answers that are profiles: how many records of each class a leaver had, and their means."""

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
)
from palimpsest.simulator.attack_metrics.resampling import interval_of_median
from palimpsest.simulator.world.profile import Profile
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Schema

_MEDIANS = (
    "total_variation", "total_variation_prior", "count_error", "count_error_prior", "mean_likeness",
    "mean_likeness_prior", "column_error", "column_error_prior",
)  # fmt: skip
_COVERED = ("counts_covered", "means_covered", "columns_covered")
_CLASSES_SHOWN = 10
_TINY = 1e-12


def score_profiles(truths: Sequence[Truth], answers: Sequence[Profile], knowledge: PublicKnowledge) -> pd.DataFrame:
    """Score profiles: a row a case. Columns with ``_prior`` are what the public sample's statistics score.

    Columns: case; size; total_variation, half the sum of differences of the two label histograms as shares;
    count_error, the mean difference of a class's count, in records; mean_likeness, the cosine of class means less the
    public mean, averaged over the deleted records; column_error, the mean difference of a column's mean over all
    deleted records, in public standard deviations; counts_covered, means_covered and columns_covered, the shares of
    true values inside their 95 % intervals; no_signal.
    """
    public = _Public.of(knowledge)
    return pd.DataFrame([public.row(truth, answer) for truth, answer in zip(truths, answers, strict=True)])


def summarise_profiles(frame: pd.DataFrame, rng: np.random.Generator) -> dict[str, Any]:
    """The figures of one attack: medians over deletions, and mean shares of what the intervals cover."""
    return {
        "n": int(frame["size"].sum()),
        **{f"{name}_median": float(frame[name].median()) for name in _MEDIANS},
        "total_variation_ci95": interval_of_median(frame["total_variation"].to_numpy(), rng),
        **{name: float(frame[name].mean()) for name in _COVERED},
    }


class _Public:
    """What the public sample says of anybody."""

    def __init__(
        self, share: Array, means: Array, centre: Array, spread: Array, statistics: tuple[Array, Array]
    ) -> None:
        self._share, self._means, self._centre, self._spread = share, means, centre, spread
        self._mean, self._scale = statistics

    @classmethod
    def of(cls, knowledge: PublicKnowledge) -> "_Public":
        x, y = np.asarray(knowledge.x, np.float64), np.asarray(knowledge.y).astype(np.int64)
        outputs, centre, spread = knowledge.facts.model.outputs, x.mean(axis=0), x.std(axis=0)
        means = np.stack([x[y == label].mean(axis=0) if (y == label).any() else centre for label in range(outputs)])
        given = knowledge.facts.preprocessing
        mean, scale = (np.array(given[name]) if given else value for name, value in (("mean", 0.0), ("scale", 1.0)))
        return cls(
            np.bincount(y, minlength=outputs) / len(y), means, centre, spread, (np.asarray(mean), np.asarray(scale))
        )

    def row(self, truth: Truth, answer: Profile) -> dict[str, Any]:
        """The scores of one case."""
        size, y = len(truth.y), truth.y.astype(np.int64)
        counts = np.bincount(y, minlength=len(self._share))
        there = np.flatnonzero(counts)
        of_classes = np.stack([truth.x[y == label].mean(axis=0) for label in there])
        columns = truth.x.mean(axis=0)
        said = (answer.columns - self._mean) / self._scale
        inside = (answer.columns_low, answer.columns_high)
        varies = self._spread > 0
        return {
            "case": truth.case,
            "size": size,
            "total_variation": 0.5 * np.abs(answer.counts - counts).sum() / size,
            "total_variation_prior": 0.5 * np.abs(self._share - counts / size).sum(),
            "count_error": np.abs(answer.counts - counts).mean(),
            "count_error_prior": np.abs(self._share * size - counts).mean(),
            "mean_likeness": self._likeness(answer.means[there], of_classes, counts[there]),
            "mean_likeness_prior": self._likeness(self._means[there], of_classes, counts[there]),
            "column_error": (np.abs(said - columns)[varies] / self._spread[varies]).mean(),
            "column_error_prior": (np.abs(self._centre - columns)[varies] / self._spread[varies]).mean(),
            "counts_covered": _covered(answer.counts_low, answer.counts_high, counts),
            "means_covered": _covered(answer.means_low[there], answer.means_high[there], of_classes),
            "columns_covered": _covered(*inside, columns * self._scale + self._mean),
            "no_signal": answer.no_signal,
        }

    def _likeness(self, said: Array, true: Array, counts: Array) -> float:
        a, b = said - self._centre, true - self._centre
        lengths = np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), _TINY)
        return float(np.average((a * b).sum(axis=1) / lengths, weights=counts))


def _covered(low: Array, high: Array, true: Array) -> float:
    """The share of values inside; ends count, up to rounding."""
    slack = 1e-9 * (1.0 + np.abs(true))
    return float(((low - slack <= true) & (true <= high + slack)).mean())


def _score(attempt: AttackAnswers[Profile], material: Material) -> Scored:
    frame = score_profiles(material.truths, attempt.guesses, material.knowledge)
    return Scored(frame, summarise_profiles(frame, attempt.bootstrap))


def _lines(guess: Profile, schema: Schema) -> list[str]:
    """The classes of one leaver, the commonest first, and what of a table's columns is told most surely."""
    order = np.argsort(-guess.counts, kind="stable")[:_CLASSES_SHOWN]
    size = guess.counts.sum()
    said = ", ".join(
        f"{class_name(int(label), schema)} {guess.counts[label]:.0f} "
        f"({guess.counts_low[label]:.0f} to {guess.counts_high[label]:.0f})"
        for label in order
    )
    lines = [f"deletion {guess.case}: of {size:.0f} records {said}" + (", no signal" if guess.no_signal else "")]
    if schema.feature_names:
        lines += [
            f"  mean {name} {value:.4g} ({low:.4g} to {high:.4g})"
            for name, value, low, high in zip(
                schema.feature_names, guess.columns, guess.columns_low, guess.columns_high, strict=True
            )
        ]
    return lines


def _on_case(rows: pd.DataFrame) -> OnCase:
    [row] = rows.to_dict("records")
    return OnCase("label histogram", 1.0 - float(row["total_variation"]), 1.0 - float(row["total_variation_prior"]))


def _inferred(guess: Profile, schema: Schema) -> str:
    """The commonest classes, with how many records."""
    order = np.argsort(-guess.counts, kind="stable")[:3]
    said = [f"{guess.counts[label]:.0f} {class_name(int(label), schema)}" for label in order]
    return ", ".join([*said, *(["..."] if len(guess.counts) > len(said) else [])])


CARD = AnswerCard(Profile, _score, lines=_lines, on_case=_on_case, inferred=_inferred)
