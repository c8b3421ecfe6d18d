"""What every attack that answers with records must do: the suite that plug-ins' tests call, over all built-in ones."""

from pathlib import Path

import pytest

from palimpsest.attacks import CARDS
from palimpsest.simulator.testing import attacks
from palimpsest.simulator.testing.frozen import check_frozen
from palimpsest.simulator.world.protocols.attack import Attack
from palimpsest.simulator.world.protocols.queries import QueryAttack
from tests.support import short
from tests.support.packages import installed
from tests.support.short import ATTACKS as SHORT

UNMOVED = ("average", "public-draw")
"""Baselines that read no model."""
RECONSTRUCTIONS = [name for name, card in CARDS.items() if card.promises == "reconstruction"]
PAIRS = [(name, where) for name in RECONSTRUCTIONS for where in attacks.places(name)]


@pytest.fixture(autouse=True)
def little_practice(monkeypatch: pytest.MonkeyPatch) -> None:
    short.little_practice(monkeypatch)


def attack(name: str) -> Attack | QueryAttack:
    made: Attack | QueryAttack = attacks.made_of(name, **SHORT.get(name, {}))
    return made


@pytest.mark.parametrize("name", CARDS)
def test_the_class_carries_the_card_of_its_name(name: str) -> None:
    made = attack(name)
    assert made.kind == name
    assert made.card is CARDS[name]
    assert (made.card.access is not None) == isinstance(made, QueryAttack)


@pytest.mark.parametrize("name", CARDS)
def test_it_is_frozen_and_refuses_unknown_fields(name: str) -> None:
    check_frozen(attacks.made_of(name), "kind", name)


@pytest.mark.parametrize(("name", "where"), PAIRS)
def test_every_case_gets_one_finite_answer_of_its_size_in_order(name: str, where: str) -> None:
    attacks.check_answers(name, where, **SHORT.get(name, {}))


@pytest.mark.parametrize(("name", "where"), PAIRS)
def test_it_is_deterministic_and_does_not_depend_on_the_order_of_cases(name: str, where: str) -> None:
    attacks.check_order(name, where, **SHORT.get(name, {}))


@pytest.mark.parametrize("name", [name for name in RECONSTRUCTIONS if name != "public-draw"])
def test_a_silent_deletion_gets_the_public_mean_flagged(name: str) -> None:
    attacks.check_silence(name, reads_models=name not in UNMOVED, **SHORT.get(name, {}))


@pytest.mark.parametrize(("name", "where"), [p for p in PAIRS if p[0] not in ("max-difference", "public-draw")])
def test_granted_labels_are_believed(name: str, where: str) -> None:
    """Two baselines return public records as they are."""
    attacks.check_granted_labels(name, where, **SHORT.get(name, {}))


@pytest.mark.parametrize("name", [name for name in RECONSTRUCTIONS if "softmax" in attacks.places(name)])
def test_released_float32_is_enough(name: str) -> None:
    attacks.check_float32(name, **SHORT.get(name, {}))


def test_an_attack_that_breaks_the_contract_is_told_what_it_breaks() -> None:
    with pytest.raises(AssertionError, match=r"average: no_signal is \[False, .*\]"):
        attacks.check_silence("average")
    with pytest.raises(AssertionError, match=r"public-draw on ridge: granted labels \(7.0,\), answered"):
        attacks.check_granted_labels("public-draw", "ridge")


ELSEWHERE = """
from typing import ClassVar, Literal
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.specs import Frozen

class Narrow(Frozen):
    card: ClassVar[Card] = Card(summary="for one model", models=("my-net",), promises="reconstruction")
    kind: Literal["narrow"] = "narrow"
"""


def test_an_attack_on_no_built_in_model_is_told_that_the_suite_cannot_check_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "narrow_attack.py").write_text(ELSEWHERE)
    points = '[project]\nname = "narrow"\nversion = "1"\n[project.entry-points."palimpsest.attacks"]\n'
    (package / "pyproject.toml").write_text(f'{points}narrow = "narrow_attack:Narrow"\n')
    installed(tmp_path / "site", package)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(AssertionError, match="narrow: its card suits no built-in model"):
        attacks.check_attack("narrow")
