"""The strength of a defense's noise has one name, by which attacks and results find it."""

import pytest

from palimpsest.defenses import CARDS
from palimpsest.simulator.scenario.entries import resolve
from palimpsest.simulator.world.privacy.strengths import STRENGTHS, strength_of

PRIVATE = [name for name, card in CARDS.items() if card.unit is not None]


@pytest.mark.parametrize("kind", [*PRIVATE, "obfuscation"])
def test_the_noise_of_every_defense_that_adds_some_is_found(kind: str) -> None:
    price = {"noise_multiplier": 0.7} if kind in PRIVATE else {"sigma": 0.7}
    entry = resolve("defense", "defense", {"kind": kind, **price})
    assert strength_of(entry) == (next(iter(price)), 0.7)


@pytest.mark.parametrize("defense", [{"kind": "rounding", "bits": 4}, {"sigma": "0.7"}, {"noise_multiplier": True}, {}])
def test_nothing_is_made_up_where_a_defense_states_no_number(defense: dict[str, object]) -> None:
    assert strength_of(defense) is None


def test_readers_have_a_word_for_each() -> None:
    assert all(STRENGTHS.values())
