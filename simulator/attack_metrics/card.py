"""What the card of a kind of answer says: how its answers are scored, summed up, drawn and said."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from palimpsest.simulator.results.inference_verdicts import Reading, Row
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Guess
from palimpsest.simulator.world.specs import Schema

__all__ = [
    "AnswerCard",
    "AnswerError",
    "AttackAnswers",
    "Material",
    "OnCase",
    "Reading",
    "Row",
    "Scored",
    "Truth",
    "class_name",
    "counted",
]

G = TypeVar("G", bound=Guess)


class AnswerError(ValueError):
    """An attack's answer is none to these cases, or holds numbers that are not finite: that attack has failed alone."""


@dataclass(frozen=True)
class Truth:
    """The deleted records of one case: ``x [k, d]`` float64 and ``y [k]``."""

    case: int
    x: Array
    y: Array


@dataclass(frozen=True)
class Material:
    """What answers are scored against.

    Attributes:
        truths: the deleted records, one entry a case.
        knowledge: public, for the mean and the form of the data.
        candidates: ``[c, d]`` held-out records.
        status: solution of the challenge, where one was posed.
        seed: of the scenario.
    """

    truths: Sequence[Truth]
    knowledge: PublicKnowledge
    candidates: Array
    status: NDArray[np.int64] | None
    seed: int


@dataclass(frozen=True)
class AttackAnswers(Generic[G]):
    """What one attack answered.

    Attributes:
        guesses: one a case, in the order of the truths.
        seconds: it took over all cases.
        draws: breaks ties and draws candidates; alike for all attacks.
        bootstrap: draws resamples for intervals; the attack's own.
    """

    guesses: Sequence[G]
    seconds: float
    draws: np.random.Generator
    bootstrap: np.random.Generator


@dataclass(frozen=True)
class Scored:
    """One attack's scores.

    Attributes:
        frame: a row for each target or case, ``case`` among its columns; ``attack``, ``kind``, ``cosine`` and
            ``cosine_centred`` are names that other packages may not use.
        figures: the attack's entry of ``results.json``: JSON values. ``kind``, ``n`` (targets), ``cases`` and
            ``no_signal`` are filled in where they are absent.
    """

    frame: pd.DataFrame
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class OnCase:
    """How well an attack did on one case.

    Attributes:
        measure: what ``success`` is, short.
        success: at most 1.
        chance: what an answer that saw no model has; None where that is not known.
    """

    measure: str
    success: float
    chance: float | None = None


def unmeasured(rows: pd.DataFrame) -> OnCase | None:
    """Nothing is said of single cases."""
    return None


def no_words(guess: Guess, schema: Schema) -> str:
    """An answer that has no words."""
    return ""


def no_lines(guess: Guess, schema: Schema) -> list[str]:
    """Answers of which a terminal shows nothing but how many there are."""
    return []


def no_records(guess: Guess) -> NDArray[np.float64] | None:
    """Answers that hold no records."""
    return None


@dataclass(frozen=True)
class AnswerCard(Generic[G]):
    """One kind of answer.

    Attributes:
        answer: the class of the answers.
        score: where ground truth meets them.
        reading: how the figures are said and drawn. None for built-in kinds alone: ``results`` reads those itself, so
            that the results of an older run get the words of today. What another package's reading says is kept in
            ``results.json``, as that can be read where the package is not installed.
        lines: of one answer at a terminal, before anything is scored; one a record where there are records.
        records: ``[k, d]`` that an answer holds, for the pictures of ``palimpsest attack``; None where it holds none.
        on_case: the success on one case, from the rows that ``score`` made of it; None where nothing is said of it.
        inferred: what one answer says was deleted, in a few words, for the row of a request.
    """

    answer: type[G]
    score: Callable[[AttackAnswers[G], Material], Scored]
    reading: Reading | None = None
    lines: Callable[[G, Schema], list[str]] = no_lines
    records: Callable[[G], NDArray[np.float64] | None] = no_records
    on_case: Callable[[pd.DataFrame], OnCase | None] = unmeasured
    inferred: Callable[[G, Schema], str] = no_words


def counted(classes: Sequence[int] | NDArray[np.int64], schema: Schema, shown: int = 3) -> str:
    """``12 benign, 8 malignant``: how many records of each class, the commonest first."""
    labels, counts = np.unique(np.asarray(classes, dtype=np.int64), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    said = [f"{counts[i]} {class_name(int(labels[i]), schema)}" for i in order[:shown]]
    return ", ".join([*said, *(["..."] if len(order) > shown else [])])


def class_name(number: int, schema: Schema) -> str:
    """What readers call a class."""
    return schema.class_names[number] if number < len(schema.class_names) else str(number)
