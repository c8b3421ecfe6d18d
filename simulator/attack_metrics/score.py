"""Each kind of answer is scored by what it claims: records, classes, or given records told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from palimpsest.attacks.session import Answer
from palimpsest.simulator.attack_metrics.inference import (
    score_challenge,
    score_labels,
    summarise_labels,
    summarise_matching,
    summarise_scores,
)
from palimpsest.simulator.attack_metrics.reconstruction import Truth, score_attack, summarise
from palimpsest.simulator.results.answers import are_labels, are_scores
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator


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
class Mark:
    """One attack's scores, a row for each target, and its figures for ``results.json``; none without a case."""

    frame: pd.DataFrame
    figures: dict[str, Any]


def mark(kind: str, answer: Answer, material: Material) -> Mark:
    """Score one attack.

    Raises:
        ValueError: answers are missing, or are no answers to these cases.
    """
    guesses, truths = answer.guesses, material.truths
    _check(kind, answer, truths)
    draws, bootstrap = generator(material.seed, "candidates"), generator(material.seed, f"bootstrap/{kind}")
    if not truths:
        return Mark(pd.DataFrame(), {})
    if are_labels(guesses):
        frame = score_labels(truths, guesses)
        figures = summarise_labels(frame, truths, material.knowledge.y, bootstrap)
    elif are_scores(guesses):
        assert material.status is not None  # it was asked, or there would be no scores
        frame = score_challenge(material.status, guesses, draws)
        if guesses[0].member_before is None:
            figures = summarise_matching(frame)
        else:
            figures = summarise_scores(frame, material.status, guesses, bootstrap)
    else:
        schema = material.knowledge.facts.schema_
        frame = score_attack(truths, answer.reconstructions, material.knowledge, schema, material.candidates, draws)
        figures = summarise(frame, answer.cost.seconds, bootstrap)
    return Mark(frame.assign(attack=kind, kind=figures["kind"]), figures | _cost(answer))


def _check(kind: str, answer: Answer, truths: Sequence[Truth]) -> None:
    cases, answered = [truth.case for truth in truths], [guess.case for guess in answer.guesses]
    if cases != answered or len({type(guess) for guess in answer.guesses}) > 1:
        raise ValueError(f"{kind} answered cases {answered}; {cases} were asked, in this order and of one kind")


def _cost(answer: Answer) -> dict[str, Any]:
    cost = answer.cost
    asked = {} if cost.queries is None else {"queries": cost.queries}
    return {"seconds": cost.seconds, "peak_memory_bytes": cost.peak_bytes, **asked}
