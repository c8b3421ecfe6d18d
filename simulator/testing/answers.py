"""What every kind of answer must be: arrays that pack and unpack themselves, scored and said by a card."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from palimpsest.attacks.cost import Cost
from palimpsest.attacks.session import Answer
from palimpsest.simulator.attack_metrics.answers import answer_card
from palimpsest.simulator.attack_metrics.card import AnswerCard, Material, Truth
from palimpsest.simulator.attack_metrics.score import AttackScore, score_answer
from palimpsest.simulator.testing.transcripts import Data, digits
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.records import Guess


def check_answer(name: str, guesses: Sequence[Guess]) -> None:
    """Check everything that is asked of a kind of answer.

    Args:
        name: under which it is registered, built in or announced by an entry point.
        guesses: what an attack might answer of deletions 0, 1, ... of one digit each (images of 8 x 8 pixels in [0, 1],
            classes 0 to 9), in order; two at least.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    try:
        card = answer_card(name)
    except RunFailure as error:
        raise AssertionError(str(error)) from error
    cases = [guess.case for guess in guesses]
    wanted = list(range(max(2, len(cases))))
    assert cases == wanted, f"{name}: guesses are of the cases {cases}; give one of each of {wanted}, in order"
    wrong = [type(guess).__name__ for guess in guesses if type(guess) is not card.answer]
    assert not wrong, f"{name}: the card is of {card.answer.__name__}, and a guess is {wrong[0]}"
    check_packing(name, guesses)
    check_scores(name, guesses)
    check_words(name, card, guesses)


def check_packing(name: str, guesses: Sequence[Guess]) -> None:
    """It cannot be changed, and what is packed is unpacked again."""
    for key in ("case", "no_signal"):
        try:
            setattr(guesses[0], key, getattr(guesses[0], key))
        except AttributeError:  # as a frozen dataclass has it
            continue
        raise AssertionError(f"{name}: {key} of a guess can be set; make it a frozen dataclass")
    cls = type(guesses[0])
    packed = {key: np.asarray(value) for key, value in cls.pack(guesses).items()}
    objects = [key for key, value in packed.items() if value.dtype.kind in "OUS"]
    assert not objects, f"{name}: the packed field {objects[0]!r} is no array of numbers, which is all that files hold"
    back = cls.unpack(packed)
    assert len(back) == len(guesses), f"{name}: of {len(guesses)} packed guesses {len(back)} come back"
    again = cls.pack(back)
    same = {key: np.array_equal(value, again[key], equal_nan=value.dtype.kind == "f") for key, value in packed.items()}
    changed = [key for key, kept in same.items() if not kept]
    assert not changed, f"{name}: the field {changed[0]!r} is not what it was once packed and unpacked"


def check_scores(name: str, guesses: Sequence[Guess]) -> None:
    """Scores are the same each time, a row a case at least, and figures can be written to ``results.json``."""
    data = digits()
    one, again = _scored(name, guesses, data), _scored(name, guesses, data)
    assert "case" in one.frame, f"{name}: its scores have no column 'case'"
    assert set(one.frame["case"]) == {guess.case for guess in guesses}, f"{name}: a case has no row among its scores"
    try:
        written = [json.dumps(scored.figures, allow_nan=False) for scored in (one, again)]
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name}: its figures are no JSON: {error}") from error
    assert written[0] == written[1], f"{name}: the same guesses get different figures; draw from attempt.draws"
    for key in ("success", "chance"):
        value = one.figures.get(key)
        sound = value is None or 0.0 <= value <= 1.0
        assert sound, f"{name}: its row has {key} = {value}; it must be in [0, 1]"
    for case, about in one.cases.items():
        success = about.get("success")
        assert success is None or success <= 1.0, f"{name}: the success on case {case} is {success}; at most 1 is meant"


def check_words(name: str, card: AnswerCard[Any], guesses: Sequence[Guess]) -> None:
    """What it says of an answer are strings, and its clause ends without a full stop."""
    schema = digits().schema
    lines = [line for guess in guesses for line in card.lines(guess, schema)]
    assert all(isinstance(line, str) for line in lines), f"{name}: a line at the terminal is no string"
    words = [card.inferred(guess, schema) for guess in guesses]
    assert all(isinstance(said, str) for said in words), f"{name}: what a guess says was deleted is no string"
    if card.reading is not None:
        clause = _scored(name, guesses, digits()).figures["said"]
        sound = isinstance(clause, str) and clause and not clause.endswith(".")
        assert sound, f"{name}: its clause is {clause!r}; a clause of the verdict without a full stop is needed"


def _scored(name: str, guesses: Sequence[Guess], data: Data) -> AttackScore:
    truths = [Truth(i, data.x[i : i + 1], data.y[i : i + 1].astype(np.float64)) for i in range(len(guesses))]
    material = Material(truths, data.knowledge(data.spec("softmax", 1.0)), data.public_x, None, 0)
    try:
        return score_answer("attack", Answer([replace(guess) for guess in guesses], Cost(0.0)), material)  # type: ignore[type-var]
    except (ValueError, RunFailure) as error:
        raise AssertionError(f"{name}: {error}") from error
