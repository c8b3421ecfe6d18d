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

__all__ = ["AnswerCard", "Attempt", "Material", "Reading", "Row", "Scored", "Truth", "class_name"]

G = TypeVar("G", bound=Guess)


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
class Attempt(Generic[G]):
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
    """

    answer: type[G]
    score: Callable[[Attempt[G], Material], Scored]
    reading: Reading | None = None
    lines: Callable[[G, Schema], list[str]] = no_lines
    records: Callable[[G], NDArray[np.float64] | None] = no_records


def class_name(number: int, schema: Schema) -> str:
    """What readers call a class."""
    return schema.class_names[number] if number < len(schema.class_names) else str(number)
