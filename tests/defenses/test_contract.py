"""What every defense must be."""

import inspect
from typing import Any

import pytest
from pydantic import ValidationError

from palimpsest.defenses import CARDS
from palimpsest.defenses.stack import Stack
from palimpsest.simulator.scenario.registry import method_class
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.protocols.defense import Defense, in_training, private_part
from palimpsest.simulator.world.specs import Recipe

HOOKS = {
    "local training": ("local_training", "model"),
    "client update": ("client_update",),
    "aggregation": ("aggregate", "statistics", "solution"),
    "release": ("release",),
    "schedule": ("schedule", "rounds_before_release"),
}
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
def test_it_overrides_exactly_the_places_where_it_says_that_it_acts(name: str) -> None:
    cls = method_class("defense", name)
    acting = {
        place
        for place, hooks in HOOKS.items()
        if any(getattr(cls, hook) is not getattr(Defense, hook) for hook in hooks)
    }
    assert acting == set(CARDS[name].places)


@pytest.mark.parametrize("name", [name for name in SINGLE if CARDS[name].pays_at])
def test_a_private_defense_names_its_price_and_needs_noise_that_nobody_knows(name: str) -> None:
    made = _made(name)
    assert "secret noise" in made.card.needs
    price = made.charge(Recipe(), 35)
    assert price.noise_multiplier > 0.0
    assert 0.0 < price.sample_rate <= 1.0
    assert price.steps >= 1


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
