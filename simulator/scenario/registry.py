"""The methods that a scenario may name, and what its entries for them mean."""

import importlib
import importlib.metadata
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel

from palimpsest import attacks, defenses
from palimpsest.server import unlearning
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.world.cards import Card

Group = Literal["unlearning", "defense", "attack"]

NAME_KEY: Mapping[Group, str] = {"unlearning": "method", "defense": "kind", "attack": "kind"}


_BUILT_IN: Mapping[Group, Mapping[str, Card]] = {
    "unlearning": unlearning.CARDS,
    "defense": defenses.CARDS,
    "attack": attacks.CARDS,
}
_ENTRY_POINTS: Mapping[Group, str] = {
    "unlearning": "palimpsest.unlearners",
    "defense": "palimpsest.defenses",
    "attack": "palimpsest.attacks",
}


def names(group: Group) -> list[str]:
    """The methods there are: built-in ones, then those of other packages. Imports none of them."""
    return [*_BUILT_IN[group], *(name for name in _third_parties(group) if name not in _BUILT_IN[group])]


def card(group: Group, name: str) -> Card:
    """The card of a method; that of another package's is read off its class, which is imported for it."""
    if name in _BUILT_IN[group]:
        return _BUILT_IN[group][name]
    cls = method_class(group, name)
    return Card(
        target=_third_parties(group)[name],
        summary=(cls.__doc__ or name).strip().splitlines()[0],
        levels=_declared(cls, "levels"),
        models=_declared(cls, "models"),
        traits=_declared(cls, "traits"),
        algorithms=_declared(cls, "algorithms"),
        needs=_declared(cls, "needs"),
        promises=str(getattr(cls, "promises", "none")),
        under=_declared(cls, "under"),
        places=_declared(cls, "places"),
        unit=getattr(cls, "unit", None) or "",
        pays_at=getattr(cls, "pays_at", None) or "",
    )


@lru_cache(maxsize=64)
def method_class(group: Group, name: str) -> type[BaseModel]:
    """Import the class of a method.

    Raises:
        ScenarioError: another package's method cannot be imported, or is no pydantic model.
    """
    built_in = _BUILT_IN[group].get(name)
    target = built_in.target if built_in else _third_parties(group)[name]
    module, _, attribute = target.partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ScenarioError(f"{group} method {name!r} ({target}) cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, BaseModel)):
        raise ScenarioError(f"{group} method {name!r} ({target}) is no pydantic model, as every method has to be")
    return cls


def _declared(cls: type[BaseModel], key: str) -> tuple[str, ...]:
    return tuple(sorted(getattr(cls, key, ())))


def _third_parties(group: Group) -> Mapping[str, str]:
    """Target by name of the methods that other packages announce."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=_ENTRY_POINTS[group])}
