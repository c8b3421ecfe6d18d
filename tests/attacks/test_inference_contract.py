"""What every attack on classes or given records must do: the suite that plug-ins' tests call, over built-in ones."""

import pytest

from palimpsest.attacks import CARDS
from palimpsest.simulator.testing import attacks
from tests.support import short
from tests.support.short import ATTACKS as SHORT

INFERENCES = [name for name, card in CARDS.items() if card.promises in ("labels", "scores")]
PAIRS = [(name, where) for name in INFERENCES for where in attacks.places(name)]


@pytest.fixture(autouse=True)
def little_practice(monkeypatch: pytest.MonkeyPatch) -> None:
    short.little_practice(monkeypatch)


@pytest.mark.parametrize(("name", "where"), PAIRS)
def test_every_case_gets_one_finite_answer_of_its_form_in_order(name: str, where: str) -> None:
    attacks.check_answers(name, where, **SHORT.get(name, {}))


@pytest.mark.parametrize(("name", "where"), [p for p in PAIRS if p[0] != "probing-label"])
def test_only_a_silent_deletion_is_flagged(name: str, where: str) -> None:
    """Labels alone may stay what they were: probing-label may find no signal in a model that moved."""
    cases, knowledge = attacks.situation(where)
    found = attacks.guesses(name, cases, knowledge, **SHORT.get(name, {}))
    assert [one.no_signal for one in found] == [case.silent for case in cases]


@pytest.mark.parametrize(("name", "where"), [p for p in PAIRS if p[1] in ("softmax", "cnn")])
def test_it_is_deterministic_and_does_not_depend_on_the_order_of_cases(name: str, where: str) -> None:
    attacks.check_order(name, where, **SHORT.get(name, {}))
