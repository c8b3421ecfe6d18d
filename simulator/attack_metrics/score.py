"""Each kind of answer is scored by its card, whichever attack gave it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from palimpsest.attacks.session import Answer
from palimpsest.simulator.attack_metrics.answers import answer_card, package_of
from palimpsest.simulator.attack_metrics.card import AnswerCard, AnswerError, AttackAnswers, Material, Truth
from palimpsest.simulator.results.inference_verdicts import Reading, kept
from palimpsest.simulator.world.seeding import generator


@dataclass(frozen=True)
class AttackScore:
    """One attack's scores; nothing without a case.

    Attributes:
        frame: a row for each target.
        figures: for ``results.json``.
        cases: by case, what ``AttackOnRequest`` says of it.
    """

    frame: pd.DataFrame
    figures: dict[str, Any]
    cases: dict[int, dict[str, Any]]


def score_answer(kind: str, answer: Answer, material: Material) -> AttackScore:
    """Score one attack.

    Raises:
        AnswerError: answers are missing, are no answers to these cases, or are not finite.
        ValueError: another package's figures are no JSON, or its columns have names that are taken.
        RunFailure: nothing here scores this kind of answer.
    """
    guesses, truths = answer.guesses, material.truths
    _check(kind, answer, truths)
    if not truths:
        return AttackScore(pd.DataFrame(), {}, {})
    name, draws = guesses[0].name, generator(material.seed, "candidates")
    card, bootstrap = answer_card(name), generator(material.seed, f"bootstrap/{kind}")
    scored = card.score(AttackAnswers(guesses, answer.cost.seconds, draws, bootstrap), material)
    counts = {
        "kind": name,
        "n": len(scored.frame),
        "cases": len(truths),
        "no_signal": sum(bool(guess.no_signal) for guess in guesses),
    }
    figures = {**scored.figures, **{key: value for key, value in counts.items() if key not in scored.figures}}
    if card.reading is not None:
        _check_columns(name, scored.frame)
        figures = {**figures, "kind": name}
        figures |= _read(kind, card.reading, figures, package_of(name))
    cases = _by_case(card, scored.frame, answer, material, withheld="withheld" in figures)
    return AttackScore(scored.frame.assign(attack=kind, kind=figures["kind"]), figures | _cost(answer), cases)


def _by_case(
    card: AnswerCard[Any], frame: pd.DataFrame, answer: Answer, material: Material, withheld: bool
) -> dict[int, dict[str, Any]]:
    """What is said of each case; no success where the figures of all cases are withheld."""
    schema, found = material.knowledge.facts.schema_, {}
    places = frame.groupby("case").indices  # of each case's rows: a search for every case would be quadratic
    for guess in answer.guesses:
        done = card.on_case(frame.iloc[places.get(guess.case, [])])
        about = {"answers": guess.name, "inferred": card.inferred(guess, schema), "no_signal": bool(guess.no_signal)}
        if done is not None:
            about["measure"] = done.measure
            about |= {} if withheld else {"success": done.success, "chance": done.chance}
        found[guess.case] = about
    return found


def _check(kind: str, answer: Answer, truths: Sequence[Truth]) -> None:
    cases, answered = [truth.case for truth in truths], [guess.case for guess in answer.guesses]
    if cases != answered or len({type(guess) for guess in answer.guesses}) > 1:
        raise AnswerError(f"{kind} answered cases {answered}; {cases} were asked, in this order and of one kind")


def _check_columns(name: str, frame: pd.DataFrame) -> None:
    """Refuse columns by which rows would be taken for scores of reconstructions."""
    taken = sorted({"attack", "kind", "cosine", "cosine_centred"} & set(frame))
    if taken:
        raise ValueError(f"scores of {name!r} answers have the columns {', '.join(taken)}; name them otherwise")


def _read(kind: str, reading: Reading, figures: Mapping[str, Any], package: str) -> dict[str, Any]:
    """What another package says of its figures, kept beside them."""
    try:
        json.dumps(figures, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{kind}: figures of {figures['kind']!r} answers ({package}) are no JSON: {error}") from None
    return kept(reading.clause({kind: figures}), reading.row(figures), package)


def _cost(answer: Answer) -> dict[str, Any]:
    cost = answer.cost
    asked = {} if cost.queries is None else {"queries": cost.queries}
    return {"seconds": cost.seconds, "peak_memory_bytes": cost.peak_bytes, **asked}
