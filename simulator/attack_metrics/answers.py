"""The table of kinds of answers. To add one: write the class and the card, add a line here, write its test.

Other packages announce one by the entry point ``palimpsest.answers``: the answer's name, and ``module:CARD``, an
``AnswerCard``. An attack says in ``promises`` with which kind it answers. Cards are imported where answers are scored,
and where a terminal shows them; neither attacks nor hosts need them.
"""

from collections.abc import Mapping
from typing import Any

from palimpsest.simulator.attack_metrics.card import AnswerCard
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.plugins import announced, imported

ENTRY_POINTS = "palimpsest.answers"
_HERE = "palimpsest.simulator.attack_metrics"

TARGETS: Mapping[str, str] = {
    "reconstruction": f"{_HERE}.reconstruction:CARD",
    "labels": f"{_HERE}.labels:CARD",
    "scores": f"{_HERE}.scores:CARD",
    "profile": f"{_HERE}.profile:CARD",
}
"""Where the card of each built-in kind stands."""


def names() -> list[str]:
    """The kinds of answer there are: built-in ones, then those of other packages. Imports none of them."""
    return [*TARGETS, *(name for name in announced(ENTRY_POINTS) if name not in TARGETS)]


def package_of(name: str) -> str:
    """The package that measures this kind of answer, with its version; empty for a built-in kind."""
    return "" if name in TARGETS else announced(ENTRY_POINTS)[name].package


def answer_card(name: str) -> AnswerCard[Any]:
    """Import the card of a kind of answer.

    Raises:
        RunFailure: there is none of this name, or it cannot be imported.
    """
    if name not in names():
        raise RunFailure(
            f"nothing here scores answers of the kind {name!r}: there are {', '.join(names())}; "
            f"a package announces a kind by the entry point {ENTRY_POINTS}"
        )
    target = TARGETS.get(name) or announced(ENTRY_POINTS)[name].target
    card = imported(target, f"the card of {name!r} answers", AnswerCard)
    assert isinstance(card, AnswerCard)  # or it would have been refused
    if card.answer.name != name or (card.reading is None and name not in TARGETS):
        raise RunFailure(
            f"the card of {name!r} answers ({target}) is for {card.answer.name!r} answers and has "
            f"{'no' if card.reading is None else 'a'} reading; it must be for {name!r} ones, and have one"
        )
    return card
