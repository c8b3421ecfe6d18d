"""Answers that are records: how alike are they to the deleted ones?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from palimpsest.simulator.attack_metrics.card import (
    AnswerCard,
    AnswerError,
    AttackAnswers,
    Material,
    OnCase,
    Scored,
    Truth,
    class_name,
    counted,
)
from palimpsest.simulator.attack_metrics.measures import measures
from palimpsest.simulator.attack_metrics.measures.measure import Background, Pairs, unit
from palimpsest.simulator.attack_metrics.resampling import Resampled
from palimpsest.simulator.world.assignment import assigned
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Reconstruction
from palimpsest.simulator.world.specs import Schema


def score_attack(
    truths: Sequence[Truth],
    reconstructions: Sequence[Reconstruction],
    knowledge: PublicKnowledge,
    schema: Schema,
    candidates_x: Array,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Score one attack: a row for each deleted record.

    Columns: case; target (position in the truth); those of ``measures`` that apply; no_signal; notes. The answers of
    a case are matched to its records by the best total cosine.

    Args:
        truths: one a case.
        reconstructions: one a case, in the order of ``truths``.
        knowledge: for the public mean, and those of classes.
        schema: form and task of the data.
        candidates_x: ``[c, d]`` records held out from training and from the attack; at most 999 of them, drawn by
            ``rng``, join the true one. May be empty.
        rng: draws candidates and breaks ties.

    Raises:
        AnswerError: an answer is missing, of another case, of the wrong shape, or not finite.
        ValueError: a measure does not return a number for each record.
    """
    if not truths:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in ("case", "target", "cosine", "cosine_centred")})
    _check(truths, reconstructions)
    pairs = _matched(truths, reconstructions)
    background = Background(knowledge.mean, schema, candidates_x, rng, _class_means(knowledge, schema))
    columns: dict[str, Array] = {"case": pairs.case, "target": pairs.target}
    for name, measure in measures().items():
        if measure.applies(background):
            columns[name] = np.asarray(measure.values(pairs, background))
            if columns[name].shape != pairs.case.shape:
                raise ValueError(
                    f"the measure {name!r} returned an array of shape {columns[name].shape} for {len(pairs.case)} "
                    f"records; it must return a number for each"
                )
    return pd.DataFrame(columns | _reported(truths, reconstructions))


def _class_means(knowledge: PublicKnowledge, schema: Schema) -> Array | None:
    """``[classes, d]`` of the public sample, its mean for a class that it has no record of; None in regression."""
    if schema.task != "classification":
        return None
    x, y = np.asarray(knowledge.x), np.asarray(knowledge.y)
    members = [y == label for label in range(schema.outputs)]
    return np.stack([x[mine].mean(axis=0) if mine.any() else knowledge.mean for mine in members])


def _reported(truths: Sequence[Truth], reconstructions: Sequence[Reconstruction]) -> dict[str, Array]:
    """What the attack said of its answers: that there was no signal, and its notes."""
    sizes = [len(truth.y) for truth in truths]
    columns = {"no_signal": np.repeat([answer.no_signal for answer in reconstructions], sizes)}
    for note in dict.fromkeys(name for answer in reconstructions for name in answer.notes):
        columns[note] = np.repeat([answer.notes.get(note, 0.0) for answer in reconstructions], sizes)
    return columns


def _check(truths: Sequence[Truth], reconstructions: Sequence[Reconstruction]) -> None:
    cases, answered = [truth.case for truth in truths], [answer.case for answer in reconstructions]
    if cases != answered:
        raise AnswerError(f"the attack answered cases {answered}; {cases} were asked, in this order")
    for truth, answer in zip(truths, reconstructions, strict=True):
        if answer.x.shape != truth.x.shape or answer.y.shape != truth.y.shape:
            raise AnswerError(
                f"case {truth.case}: the answer has shapes {answer.x.shape} and {answer.y.shape}, "
                f"the deleted records {truth.x.shape} and {truth.y.shape}"
            )
        if not (np.isfinite(answer.x).all() and np.isfinite(answer.y).all()):
            raise AnswerError(f"case {truth.case}: the answer holds numbers that are not finite")


def _matched(truths: Sequence[Truth], reconstructions: Sequence[Reconstruction]) -> Pairs:
    """Match each case's answers to its records; labels take no part in it."""
    orders = []
    for truth, answer in zip(truths, reconstructions, strict=True):
        orders.append(assigned(unit(truth.x) @ unit(answer.x).T))
    return Pairs(
        case=np.concatenate([np.full(len(truth.y), truth.case) for truth in truths]),
        target=np.concatenate([np.arange(len(truth.y)) for truth in truths]),
        x=np.concatenate([truth.x for truth in truths]).astype(np.float64),
        y=np.concatenate([truth.y for truth in truths]).astype(np.float64),
        found_x=np.concatenate([answer.x[order] for answer, order in zip(reconstructions, orders, strict=True)]),
        found_y=np.concatenate([answer.y[order] for answer, order in zip(reconstructions, orders, strict=True)]),
    )


def summarise(frame: pd.DataFrame, seconds: float, rng: np.random.Generator) -> dict[str, Any]:
    """The figures of one attack for ``results.json``.

    A measure has its median, 10th and 90th percentile and ``_ci95``, the percentile interval of the median over
    what ``resampled`` names (deletions, where there are enough), or figures of its own. What was not measured is
    absent, and so are intervals where there is too little to resample.

    Args:
        frame: what ``score_attack`` returned, with at least one row.
        seconds: the attack took over all cases.
        rng: draws the resamples.
    """
    count, resampled = len(frame), Resampled(frame, rng)
    figures: dict[str, Any] = {"kind": "reconstruction", "n": count, "cases": int(frame["case"].nunique())}
    if resampled.unit is not None:
        figures["resampled"] = resampled.unit
    for name, measure in measures().items():
        if name in frame and measure.figures is not None:
            figures |= measure.figures(frame)
        elif name in frame:
            figures |= _spread(name, frame[name].to_numpy(np.float64), resampled)
    figures["no_signal"] = int(frame["no_signal"].sum())
    if "sign_flipped" in frame:
        figures["sign_flips"] = int(frame.groupby("case")["sign_flipped"].first().sum())
    return {**figures, "seconds_per_record": seconds / count}


def _spread(name: str, values: Array, resampled: Resampled) -> dict[str, Any]:
    """Median, percentiles and interval of one measure's values ``[n]``."""
    tenth, middle, ninetieth = np.percentile(values, [10, 50, 90])
    figures: dict[str, Any] = {
        f"{name}_median": float(middle),
        f"{name}_p10": float(tenth),
        f"{name}_p90": float(ninetieth),
    }
    if (interval := resampled.interval_of_median(values)) is not None:
        figures[f"{name}_ci95"] = interval
    return figures


def _score(attempt: AttackAnswers[Reconstruction], material: Material) -> Scored:
    known = material.knowledge
    frame = score_attack(
        material.truths, attempt.guesses, known, known.facts.schema_, material.candidates, attempt.draws
    )
    return Scored(frame, {**summarise(frame, attempt.seconds, attempt.bootstrap), **_prior(known)})


def _prior(knowledge: PublicKnowledge) -> dict[str, float]:
    """How often a guess at the class is right: the commonest one's share of the public sample; none in regression."""
    if knowledge.facts.schema_.task != "classification":
        return {}
    return {"label_prior": float(np.bincount(np.asarray(knowledge.y).astype(np.int64)).max() / len(knowledge.y))}


def _lines(guess: Reconstruction, schema: Schema) -> list[str]:
    """Case and label of each record."""
    end = ", no signal" if guess.no_signal else ""
    labels = [
        f"target {y:.2f}" if schema.task == "regression" else f"class {class_name(int(y), schema)}" for y in guess.y
    ]
    return [f"deletion {guess.case}, {label}{end}" for label in labels]


def _records(guess: Reconstruction) -> NDArray[np.float64]:
    return guess.x


def _on_case(rows: pd.DataFrame) -> OnCase:
    return OnCase("centred cosine", float(rows["cosine_centred"].median()), 0.0)


def _inferred(guess: Reconstruction, schema: Schema) -> str:
    """How many records, of which classes."""
    if schema.task == "regression":
        return f"{len(guess.y)} records" if len(guess.y) > 1 else f"target {guess.y[0]:.2f}"
    return counted(guess.y.astype(np.int64), schema)


CARD = AnswerCard(Reconstruction, _score, lines=_lines, records=_records, on_case=_on_case, inferred=_inferred)
