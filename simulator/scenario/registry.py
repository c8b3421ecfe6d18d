"""The methods that a scenario may name, and what its entries for them mean."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from palimpsest import attacks, defenses
from palimpsest.server import strategies, unlearning
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.plugins import announced, imported
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.protocols.strategy import Strategy

Group = Literal["unlearning", "defense", "attack", "strategy"]

NAME_KEY: Mapping[Group, str] = {"unlearning": "method", "defense": "kind", "attack": "kind", "strategy": "strategy"}


_BUILT_IN: Mapping[Group, Mapping[str, Card]] = {
    "unlearning": unlearning.CARDS,
    "defense": defenses.CARDS,
    "attack": attacks.CARDS,
    "strategy": strategies.CARDS,
}
_ENTRY_POINTS: Mapping[Group, str] = {
    "unlearning": "palimpsest.unlearners",
    "defense": "palimpsest.defenses",
    "attack": "palimpsest.attacks",
    "strategy": "palimpsest.strategies",
}


def names(group: Group) -> list[str]:
    """The methods there are: built-in ones, then those of other packages. Imports none of them."""
    return [*_BUILT_IN[group], *(name for name in _third_parties(group) if name not in _BUILT_IN[group])]


def card(group: Group, name: str) -> Card:
    """The card of a method; another package's class carries its card, and is imported for it.

    Raises:
        ScenarioError: as ``method_class``.
    """
    if name in _BUILT_IN[group]:
        return _BUILT_IN[group][name]
    return _card_of(group, name, method_class(group, name), _third_parties(group)[name])


@lru_cache(maxsize=64)
def method_class(group: Group, name: str) -> type[BaseModel]:
    """Import the class of a method.

    Raises:
        ScenarioError: another package's method cannot be imported, whatever its module raises, is no pydantic model, or
            carries no sound card.
    """
    built_in = _BUILT_IN[group].get(name)
    target = built_in.target if built_in else _third_parties(group)[name]
    try:
        cls = imported(target, f"{group} method {name!r}", object)
    except RunFailure as error:
        raise ScenarioError(str(error)) from error
    if not (isinstance(cls, type) and issubclass(cls, BaseModel)):
        raise ScenarioError(f"{group} method {name!r} ({target}) is no pydantic model, as every method has to be")
    if built_in is None:
        _card_of(group, name, cls, target)
    return cls


def _card_of(group: Group, name: str, cls: type[BaseModel], target: str) -> Card:
    """The card that a class of another package carries, with the target of its entry point.

    Raises:
        ScenarioError: there is none, or a fact on it is of the wrong type.
    """
    carried = getattr(cls, "card", None)
    if not isinstance(carried, Card) or carried in (Defense.card, Strategy.card):
        raise ScenarioError(
            f"{group} method {name!r} ({target}) carries no card: its class has to state "
            f"`card: ClassVar[Card] = Card(summary=...)`, with Card of palimpsest.simulator.world.cards"
        )
    try:
        TypeAdapter(Card).validate_python(asdict(carried))
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(str(part) for part in wrong["loc"])
        raise ScenarioError(
            f"{group} method {name!r} ({target}): its card's {where} = {wrong['input']!r}: {wrong['msg']}"
        ) from error
    return replace(carried, target=target)


def _third_parties(group: Group) -> Mapping[str, str]:
    """Target by name of the methods that other packages announce."""
    return {name: entry.target for name, entry in announced(_ENTRY_POINTS[group]).items()}
