"""Tables of a scenario before they are checked: overrides, variants, and defaults that depend on other keys."""

import copy
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from palimpsest.simulator.scenario.errors import ScenarioError

Table = dict[str, Any]

_ALTERNATIVES = (("l2", "lambda"), ("clients_per_round", "sampling"))
"""Two ways of saying one thing: an override that says one takes the other away."""

_COHORT = 20


def merged(base: Any, patch: Any) -> Any:
    """Return ``patch`` over ``base``, table by table; anything but a table replaces what was there.

    So does a table with another ``scheme``, whose other keys would mean nothing.
    """
    if not (isinstance(base, dict) and isinstance(patch, dict)):
        return patch
    if "scheme" in patch and patch["scheme"] != base.get("scheme", patch["scheme"]):
        return patch
    replaced = {other for pair in _ALTERNATIVES for key, other in (pair, pair[::-1]) if key in patch}
    result = {key: value for key, value in base.items() if key not in replaced}
    return result | {key: merged(base[key], value) if key in base else value for key, value in patch.items()}


def filled(table: Table) -> Table:
    """Return the table with the default of ``training.clients_per_round``: 20, or all clients where there are fewer."""
    data, training = table.get("data", {}), table.get("training", {})
    if not (isinstance(data, dict) and isinstance(training, dict)):
        return table  # refused later
    if "clients_per_round" in training or "sampling" in training:
        return table
    division = data.get("partition", {})
    natural = isinstance(division, dict) and division.get("scheme") == "natural"
    clients = data.get("clients", 0 if natural else 100)
    cohort = min(_COHORT, clients) if isinstance(clients, int) and clients >= 0 else _COHORT
    return table | {"training": training | {"clients_per_round": cohort}}


def overridden(content: Table, overrides: Sequence[str] | Mapping[str, Any]) -> Table:
    """Apply ``path.to.key=value`` settings, in order; ``*`` in a path stands for every entry of a list.

    Args:
        content: tables of a scenario.
        overrides: settings as text, values in TOML (a bare word is text), or values by their paths.

    Raises:
        ScenarioError: a setting has no ``=``, names an entry that is not there, or is overruled by a variant.
    """
    result = copy.deepcopy(content)
    for path, value, said in _settings(overrides):
        steps = [step.strip() for step in path.split(".")]
        if not all(steps):
            raise ScenarioError(f"{said}: must be KEY=VALUE, such as data.clients=1000")
        _not_overruled(result, steps, said)
        result = _assigned(result, steps, value, said)
    return result


def _settings(overrides: Sequence[str] | Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Path, value, and what the user wrote."""
    if isinstance(overrides, Mapping):
        for path, value in overrides.items():
            yield path, plain(value, path), f"set {{{path!r}: {value!r}}}"
        return
    for override in overrides:
        path, separator, text = override.partition("=")
        yield path if separator else "", _value(text.strip()), f"--set {override}"


def plain(value: Any, path: str) -> Any:
    """Return a copy of nothing but tables, lists, text, finite numbers and booleans.

    Raises:
        ScenarioError: something else is in it: a date, NaN or infinity.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{path}.{position}") for position, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ScenarioError(f"{path} = {value}: must be a finite number")
    if isinstance(value, str | bool | int | float):
        return value
    raise ScenarioError(f"{path} = {value}: must be text, a number, true or false, a list or a table")


def _value(text: str) -> Any:
    """Read a TOML value; what is none is text."""
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return read["value"] if len(read) == 1 else text


def _assigned(node: Any, steps: list[str], value: Any, said: str) -> Any:
    """Return ``node`` with the value at the end of the path."""
    if not steps:
        return value
    step, *rest = steps
    if isinstance(node, list):
        return _in_entries(node, step, rest, value, said)
    if not isinstance(node, dict) or ((step.isdigit() or step == "*") and step not in node):
        raise ScenarioError(f"{said}: there is no entry {step!r}, as there is no list here to take it from")
    if rest and isinstance(node.get(step), list):
        return node | {step: _assigned(node[step], rest, value, said)}
    return merged(node, {step: _assigned(node.get(step, {}), rest, value, said)})


def _in_entries(entries: list[Any], step: str, rest: list[str], value: Any, said: str) -> list[Any]:
    """The list, with the value in the entry that the step names, or in every one for ``*``."""
    if not (step == "*" and entries) and not (step.isdigit() and int(step) < len(entries)):
        known = (
            f"entries are numbered 0 to {len(entries) - 1}, and * is all of them" if entries else "the list is empty"
        )
        raise ScenarioError(f"{said}: there is no entry {step!r}; {known}")
    return [
        _assigned(item, rest, value, said) if step in ("*", str(position)) else item
        for position, item in enumerate(entries)
    ]


def _not_overruled(content: Table, steps: list[str], said: str) -> None:
    """Refuse to set what every reader would believe to hold, and a variant sets otherwise."""
    variants = content.get("variant", [])
    for position, variant in enumerate(variants if isinstance(variants, list) else []):
        node: Any = variant
        for step in steps:
            node = node.get(step) if isinstance(node, dict) else None
        if node is not None and steps[0] != "name":
            path = ".".join(steps)
            raise ScenarioError(
                f"{said}: the variant {variant.get('name')!r} sets {path} itself; set variant.{position}.{path}, or "
                f"variant.*.{path} for all variants, instead"
            )
