"""What every defense must be."""

import inspect
from typing import Any

import pytest
from pydantic import ValidationError

from palimpsest.defenses import CARDS
from palimpsest.defenses.stack import Stack
from palimpsest.simulator.scenario.registry import method_class
from palimpsest.simulator.testing import defenses
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.protocols.defense import Defense, in_training, private_part
from palimpsest.simulator.world.specs import Recipe

SINGLE = [name for name in CARDS if name != "stack"]


def _made(name: str) -> Any:
    cls: Any = method_class("defense", name)
    return cls(of=tuple(_made(kind) for kind in ("dp-sgd", "none"))) if name == "stack" else cls()


@pytest.mark.parametrize("name", CARDS)
def test_the_class_carries_the_card_of_its_name(name: str) -> None:
    made = _made(name)
    assert isinstance(made, Defense)
    assert made.kind == name
    assert made.card is CARDS[name]
    assert (made.card.unit is None) == (made.card.pays_at is None)
    assert "Guarantee: " in (inspect.getdoc(type(made)) or "")
    with pytest.raises(ValidationError, match="frozen"):
        made.kind = "other"
    with pytest.raises(ValidationError, match="no_such_field"):
        type(made)(no_such_field=1)


@pytest.mark.parametrize("name", SINGLE)
def test_it_keeps_the_contract(name: str) -> None:
    """It acts exactly where it says, and a private one names its price."""
    defenses.check_defense(name)


def test_a_defense_that_breaks_the_contract_is_told_what_it_breaks() -> None:
    with pytest.raises(AssertionError, match=r"none: its card does not say that it needs secret noise"):
        defenses.check_price("none", _made("none"))


def test_dp_sgd_charges_a_poisson_batch_for_every_step() -> None:
    made = _made("dp-sgd")
    assert made.charge(Recipe(batch_size=10, local_epochs=3), 35) == Charge(1.0, 0.25, 12)
    assert made.charge(Recipe(batch_size=10, local_steps=7), 35) == Charge(1.0, 0.25, 7)
    assert made.charge_once() == Charge(1.0)


def test_a_stack_acts_as_its_parts_do_and_promises_what_its_private_part_does() -> None:
    stack = _made("stack")
    private = stack.of[0]
    assert stack.local_training(Recipe()) == private.local_training(Recipe())
    assert private_part(stack) is private
    assert in_training(stack) == (private,)
    with pytest.raises(ValidationError, match="account"):
        Stack(of=(_made("dp-sgd"), _made("central-dp")))
    with pytest.raises(ValidationError, match="twice"):
        Stack(of=(_made("none"), _made("none")))
