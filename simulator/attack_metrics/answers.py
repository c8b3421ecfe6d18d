"""The table of kinds of answers. To add one: write the class and the card, add a line here, write its test.

Other packages announce one by the entry point ``palimpsest.answers``: the answer's name, and ``module:CARD``, an
``AnswerCard``. An attack says in ``promises`` with which kind it answers. Cards are imported where answers are scored,
and where a terminal shows them; neither attacks nor hosts need them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from palimpsest.simulator.world.cards import MeasureCard
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.plugins import announced, imported, measure_cards

if TYPE_CHECKING:
    from palimpsest.simulator.attack_metrics.card import AnswerCard

ENTRY_POINTS = "palimpsest.answers"
_HERE = "palimpsest.simulator.attack_metrics"

CARDS: Mapping[str, MeasureCard] = {
    "reconstruction": MeasureCard(f"{_HERE}.reconstruction:CARD", "the deleted records"),
    "labels": MeasureCard(f"{_HERE}.labels:CARD", "which classes were deleted"),
    "scores": MeasureCard(f"{_HERE}.scores:CARD", "of given records, which were deleted or trained on"),
    "profile": MeasureCard(f"{_HERE}.profile:CARD", "how many records of each class a client had, and their means"),
}
"""The built-in kinds: where the card of each stands, and what it says."""


def cards() -> dict[str, MeasureCard]:
    """The kinds of answer there are: built-in ones, then those of other packages. Imports none of them."""
    return measure_cards(CARDS, ENTRY_POINTS)


def names() -> list[str]:
    """The kinds of answer there are."""
    return list(cards())


def package_of(name: str) -> str:
    """The package that measures this kind of answer, with its version; empty for a built-in kind."""
    return "" if name in CARDS else announced(ENTRY_POINTS)[name].package


def answer_card(name: str) -> "AnswerCard[Any]":
    """Import the card of a kind of answer.

    Raises:
        RunFailure: there is none of this name, or it cannot be imported.
    """
    from palimpsest.simulator.attack_metrics.card import AnswerCard  # PyTorch with it, which a list can do without

    if name not in names():
        raise RunFailure(
            f"nothing here scores answers of the kind {name!r}: there are {', '.join(names())}; "
            f"a package announces a kind by the entry point {ENTRY_POINTS}"
        )
    target = cards()[name].target
    card = imported(target, f"the card of {name!r} answers", AnswerCard)
    assert isinstance(card, AnswerCard)  # or it would have been refused
    if card.answer.name != name or (card.reading is None and name not in CARDS):
        raise RunFailure(
            f"the card of {name!r} answers ({target}) is for {card.answer.name!r} answers and has "
            f"{'no' if card.reading is None else 'a'} reading; it must be for {name!r} ones, and have one"
        )
    return card
