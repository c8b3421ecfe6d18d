"""What every defense must be."""

import inspect
from typing import Any

from palimpsest.simulator.scenario.registry import card, method_class
from palimpsest.simulator.testing.frozen import check_frozen
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.specs import Recipe

HOOKS = {
    "local training": ("local_training", "model"),
    "client update": ("client_update",),
    "aggregation": ("aggregate", "statistics", "solution"),
    "release": ("release",),
    "schedule": ("schedule", "rounds_before_release"),
}
"""The methods that a defense overrides, by the place where it acts."""


def check_defense(name: str, **settings: Any) -> None:
    """Check everything that is asked of a defense.

    Args:
        name: under which it is registered, built in or announced by an entry point.
        **settings: its hyper-parameters; all have defaults.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    made: Any = method_class("defense", name)(**settings)
    assert isinstance(made, Defense), f"{name}: it is no subclass of Defense"
    check_frozen(made, "kind", name)
    assert "Guarantee: " in (inspect.getdoc(type(made)) or ""), f"{name}: its docstring states no 'Guarantee: '"
    check_places(name)
    if card("defense", name).pays_at:
        check_price(name, made)


def check_places(name: str) -> None:
    """It overrides exactly the places where its card says that it acts."""
    cls = method_class("defense", name)
    acting = {
        place
        for place, hooks in HOOKS.items()
        if any(getattr(cls, hook) is not getattr(Defense, hook) for hook in hooks)
    }
    said = set(card("defense", name).places)
    assert acting == said, f"{name}: its card says that it acts at {sorted(said)}, and it acts at {sorted(acting)}"


def check_price(name: str, made: Any) -> None:
    """A private defense names its price, and needs noise that nobody knows."""
    assert "secret noise" in card("defense", name).needs, f"{name}: its card does not say that it needs secret noise"
    price = made.charge(Recipe(), 35)
    assert price.noise_multiplier > 0.0, f"{name}: noise multiplier {price.noise_multiplier}"
    assert 0.0 < price.sample_rate <= 1.0, f"{name}: sample rate {price.sample_rate}"
    assert price.steps >= 1, f"{name}: {price.steps} steps"
