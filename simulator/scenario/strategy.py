"""The strategy that the section [training] names, and its hyper-parameters among that section's keys."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from palimpsest.simulator.scenario.errors import OWN_WORDS, ScenarioError, closest, explain, listed
from palimpsest.simulator.scenario.registry import card, method_class, names
from palimpsest.simulator.world.protocols.strategy import Strategy


def checked_options(name: str, options: Mapping[str, Any], fixed: set[str]) -> dict[str, Any]:
    """The hyper-parameters of a strategy with every default; those of other strategies are refused.

    Args:
        name: of the strategy.
        options: keys of the section that are not its own.
        fixed: the section's own.

    Raises:
        PydanticCustomError: there is no such strategy, or it has no such hyper-parameter or value.
    """
    cls = _class_of(name)
    known = _keys(cls)
    for key, value in options.items():
        if key in known:
            continue
        others = [other for other in names("strategy") if other != name and key in _keys(_class_of(other))]
        if others:
            _refuse(f"{key} = {value} is for strategy = {' or '.join(map(repr, others))}, not {name!r}; leave it out")
        there = sorted(fixed | known)
        _refuse(f"{key}: unknown key;{closest(key, there)} known here: {listed(there)}")
    try:
        made = cls.model_validate_json(json.dumps(dict(options)), strict=True)
    except ValidationError as error:
        _refuse(explain(error, cls))
    return {key: value for key, value in made.model_dump(mode="json").items() if key in known}


def strategy_of(name: str, options: Mapping[str, Any]) -> Strategy:
    """The strategy itself, from its name and its checked hyper-parameters."""
    return _class_of(name).model_validate_json(json.dumps(dict(options)), strict=True)


def _keys(cls: type[Strategy]) -> set[str]:
    return set(cls.model_fields) - {"strategy"}


def _class_of(name: str) -> type[Strategy]:
    if name not in names("strategy"):
        known = names("strategy")
        hint = closest(name, known)
        _refuse(f"strategy = {json.dumps(name)}: there is no such strategy;{hint} it must be one of: {listed(known)}")
    try:
        cls = method_class("strategy", name)
        card("strategy", name)
    except ScenarioError as error:
        _refuse(f"strategy = {json.dumps(name)}: {error}")
    if not issubclass(cls, Strategy):
        _refuse(
            f"strategy = {json.dumps(name)}: {cls.__name__} is no subclass of Strategy of "
            f"palimpsest.simulator.world.protocols.strategy"
        )
    return cls


def _refuse(sentence: str) -> NoReturn:
    raise PydanticCustomError(OWN_WORDS, "{sentence}", {"sentence": sentence})
