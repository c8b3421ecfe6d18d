"""What the entries of a scenario for its methods mean."""

import itertools
import json
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from palimpsest.simulator.scenario.errors import ScenarioError, closest, explain, listed
from palimpsest.simulator.scenario.registry import NAME_KEY, Group, card, method_class, names
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.kinds import names as models
from palimpsest.simulator.world.models.kinds import suits

Entry = dict[str, Any]
"""One entry of a scenario: the method's name, its hyper-parameters, and ``only`` where it is for some variants."""


BASELINES = ("average", "max-difference", "public-draw")
"""Attacks that always run, so that every other one is seen beside them."""


_STACK: tuple[Group, str] = ("defense", "stack")
"""The one method whose entry holds others."""


_DEFAULTS: Mapping[Group, tuple[str, ...]] = {
    "unlearning": ("retrain",),
    "defense": ("none",),
    "attack": ("hrec", "raw-difference", *BASELINES),
}


def resolve(group: Group, path: str, entry: Any) -> Entry:
    """Check one entry and fill in every default.

    A list stands where the class has a single value: one arm for each of its items.

    Raises:
        ScenarioError: an unknown method or hyper-parameter, or a value that the method refuses.
    """
    name = _name_of(group, path, entry)
    if (group, name) == _STACK:
        return _resolved_stack(path, entry)
    cls = method_class(group, name)
    given = {key: value for key, value in entry.items() if key != "only"}
    swept = _swept(cls, given)
    for key in swept:
        if group == "attack":
            raise ScenarioError(
                f"{path}.{key} = {given[key]}: must be a single value; a transcript is attacked once by each kind"
            )
        if not given[key]:
            raise ScenarioError(f"{path}.{key} = []: must have at least one item")
    points = [_validated(cls, path, point) for point in _grid(given, swept)]
    defaults = points[0].model_dump(mode="json", exclude_none=True)
    resolved = {**defaults, **{key: given[key] for key in swept}}
    return resolved | ({"only": _only(path, entry)} if "only" in entry else {})


def expand(group: Group, entry: Entry) -> tuple[Any, ...]:
    """The method objects of a resolved entry, in the order of its lists."""
    given = {key: value for key, value in entry.items() if key != "only"}
    cls = method_class(group, given[NAME_KEY[group]])
    if (group, given[NAME_KEY[group]]) == _STACK:
        return tuple(_stacked(cls, group, chosen) for chosen in itertools.product(*map(_expand_defense, given["of"])))
    return tuple(_validated(cls, group, point) for point in _grid(given, _swept(cls, given)))


def with_defaults(group: Group, entries: list[Entry], variants: Mapping[str, str]) -> list[Entry]:
    """Add what always belongs to a scenario: defaults where a section is empty, and the baselines to attacks.

    Args:
        entries: resolved.
        variants: model kind of each variant; one of empty name where there are none.
    """
    wanted = _DEFAULTS[group] if not entries else BASELINES if group == "attack" else ()
    added = list(entries)
    for name in wanted:
        about = card(group, name)
        missing = [
            variant
            for variant, kind in variants.items()
            if _suits(about, kind)
            and not any(entry[NAME_KEY[group]] == name and applies(entry, variant) for entry in entries)
        ]
        if missing:
            entry = resolve(group, group, {NAME_KEY[group]: name})
            added.append(entry if len(missing) == len(variants) else entry | {"only": missing})
    return added


def _suits(about: Card, kind: str) -> bool:
    try:
        return suits(about, kind)
    except ModelError:
        return True  # the section [model] is refused for it


def members(entry: Entry) -> list[Entry]:
    """The entries in a resolved stack, for the variants that it is for; of any other entry none."""
    shared = {"only": entry["only"]} if "only" in entry else {}
    return [member | shared for member in entry["of"]] if entry.get("kind") == _STACK[1] else []


def applies(entry: Entry, variant: str) -> bool:
    """Whether an entry is for a variant."""
    return "only" not in entry or variant in entry["only"]


def _resolved_stack(path: str, entry: Any) -> Entry:
    """Check a stack of defenses and every one of them; a list inside of one is one arm for each item, as outside."""
    unknown = [key for key in entry if key not in ("kind", "of", "only")]
    given = entry.get("of")
    if unknown:
        raise ScenarioError(
            f"{path}.{unknown[0]}: a stack has no such key; give it to one of the defenses in {path}.of"
        )
    if not isinstance(given, list) or not given:
        raise ScenarioError(f"{path}.of = {given!r}: must be a list of defenses, [{{ kind = ... }}, ...]")
    parts = []
    for position, member in enumerate(given):
        place = f"{path}.of.{position}"
        if isinstance(member, dict) and "only" in member:
            raise ScenarioError(f"{place}.only: a stack is for a variant as a whole; give `only` beside `of`")
        if isinstance(member, dict) and member.get("kind") == _STACK[1]:
            raise ScenarioError(f"{place}.kind = 'stack': a stack in a stack; write its defenses into the outer one")
        parts.append(resolve("defense", place, member))
    cls = method_class(*_STACK)
    _stacked(cls, path, tuple(_expand_defense(member)[0] for member in parts))
    return {"kind": _STACK[1], "of": parts} | ({"only": _only(path, entry)} if "only" in entry else {})


def _expand_defense(entry: Entry) -> tuple[Any, ...]:
    return expand("defense", entry)


def _stacked(cls: type[BaseModel], path: str, parts: tuple[Any, ...]) -> BaseModel:
    try:
        return cls(of=parts)
    except ValidationError as error:
        raise ScenarioError(explain(error, cls, path)) from None


def _name_of(group: Group, path: str, entry: Any) -> str:
    key, known = NAME_KEY[group], names(group)
    if not isinstance(entry, dict):
        raise ScenarioError(f"{path} = {entry!r}: must be a table, [[{group}]] with {key} = one of {listed(known)}")
    name = entry.get(key)
    if name is None:
        raise ScenarioError(f"{path}.{key} is missing; it must be one of {listed(known)}")
    if name not in known:
        hint = (elsewhere(name) or closest(name, known)) if isinstance(name, str) else ""
        raise ScenarioError(
            f"{path}.{key} = {json.dumps(name)}: there is no such {group} method;{hint} "
            f"it must be one of: {listed(known)}"
        )
    return str(name)


def elsewhere(name: str) -> str:
    """Where a name belongs that was given in the wrong place, as part of a sentence; empty where there is no such."""
    places: Mapping[str, Collection[str]] = {
        "model.kind": models(),
        "training.strategy": names("strategy"),
        "unlearning.method": names("unlearning"),
        "defense.kind": names("defense"),
        "attack.kind": names("attack"),
    }
    place = next((place for place, known in places.items() if name in known), None)
    return f" {name!r} is a value of {place};" if place else ""


def _only(path: str, entry: Entry) -> list[str]:
    only = entry["only"]
    if not isinstance(only, list) or not only or not all(isinstance(name, str) for name in only):
        raise ScenarioError(f"{path}.only = {only!r}: must be a list of names of variants")
    return only


def _swept(cls: type[BaseModel], given: Entry) -> list[str]:
    """Keys that hold a list where the class has a single value."""
    fields = cls.model_fields
    return [
        key
        for key, value in given.items()
        if isinstance(value, list) and key in fields and not _holds_lists(fields[key].annotation)
    ]


def _holds_lists(annotation: Any) -> bool:
    """Whether a field of this type takes a list as one value."""
    origin = typing.get_origin(annotation) or annotation
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return any(_holds_lists(inner) for inner in typing.get_args(annotation))
    return isinstance(origin, type) and issubclass(origin, list | tuple | set | frozenset)


def _grid(given: Entry, swept: list[str]) -> list[Entry]:
    """Every combination of the swept values, the first key slowest."""
    axes = [[(key, value) for value in given[key]] for key in swept]
    return [given | dict(point) for point in itertools.product(*axes)]


def _validated(cls: type[BaseModel], path: str, point: Entry) -> BaseModel:
    try:
        return cls.model_validate_json(json.dumps(point), strict=True)
    except ValidationError as error:
        raise ScenarioError(explain(error, cls, path)) from None
