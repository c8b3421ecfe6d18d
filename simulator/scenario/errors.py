"""What is wrong with a scenario, in one sentence: the key's path, the value, and what would be accepted."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from palimpsest.simulator.scenario.synonyms import nearest
from palimpsest.simulator.world.errors import masked

_EXPECTED = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text in quotes",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list, in square brackets",
    "list_type": "must be a list, in square brackets",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} item",
    "string_too_short": "must not be empty",
}


OWN_WORDS = "own_words"
"""Type of a complaint whose sentence stands in its context, and begins with the key that it is about."""


class ScenarioError(ValueError):
    """A scenario cannot be run; the message is one sentence for its author."""


def closest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean X?`` with a blank in front where ``word`` looks like a known one, else nothing."""
    near = nearest(word, known)
    return f" did you mean {near!r}?" if near else ""


def listed(names: Iterable[Any]) -> str:
    """``a, b, c``."""
    return ", ".join(str(name) for name in names)


def explain(error: ValidationError, schema: type[BaseModel], prefix: str = "") -> str:
    """Turn pydantic's first complaint into the one sentence.

    Args:
        error: what validating ``schema`` raised.
        schema: names the keys that exist, for the complaint about one that does not.
        prefix: path of the validated table within the scenario.
    """
    first = error.errors(include_url=False)[0]
    steps = [str(step) for step in first["loc"]]
    path = ".".join([prefix, *steps] if prefix else steps)
    kind, value = first["type"], first["input"]
    if kind == "extra_forbidden":
        known = sorted(_keys(schema, first["loc"][:-1]))
        return f"{path}: unknown key;{closest(steps[-1], known)} known here: {listed(known)}"
    if kind == OWN_WORDS:
        return f"{path}.{first['ctx']['sentence']}" if path else str(first["ctx"]["sentence"])
    if kind == "missing":
        return f"{path} is missing"
    if kind == "value_error":
        return _joined(path, _shown(value), str(first["ctx"]["error"]), _keys(schema, first["loc"]))
    context = first.get("ctx", {})
    if kind in ("literal_error", "enum"):
        choices = context["expected"].replace(" or ", ", ")
        wanted = f"must be one of {choices}" if "," in choices else f"must be {choices}"
        wanted += _hint(value, re.findall(r"'([^']*)'", choices))
    else:
        wanted = _EXPECTED.get(kind, first["msg"]).format(**context)
    return f"{path}{_shown(value)}: {wanted}"


def _hint(value: Any, choices: Iterable[str]) -> str:
    """The choice that was meant, or the key that the value belongs to."""
    from palimpsest.simulator.scenario.entries import elsewhere  # which explains its errors with this module

    hint = (elsewhere(value) or closest(value, choices)) if isinstance(value, str) else ""
    return f";{hint.rstrip(';')}" if hint else ""


def _joined(path: str, shown: str, reason: str, keys: set[str]) -> str:
    """Put a validator's own sentence behind the path; one about a whole table begins with the key that it is about."""
    if not path:
        return reason
    about_key = not shown and re.split(r"[ .]", reason)[0] in keys
    return f"{path}.{reason}" if about_key else f"{path}{shown}: {reason}"


def _shown(value: Any) -> str:
    """`` = value``, in the notation of TOML and short; nothing for whole tables."""
    if isinstance(value, dict | BaseModel):
        return ""
    text = str(value).lower() if isinstance(value, bool) else masked(repr(value)).replace("'", '"')
    return f" = {text if len(text) <= 60 else text[:57] + '...'}"


def _keys(schema: type[BaseModel], path: tuple[int | str, ...]) -> set[str]:
    """Names of the keys of the table at ``path`` below ``schema``."""
    for step in path:
        if isinstance(step, int):
            continue
        field = next(f for name, f in schema.model_fields.items() if step in (name, f.alias))
        schema = _table_of(field.annotation) or schema
    return {field.alias or name for name, field in schema.model_fields.items()}


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """The model within ``X``, ``X | None`` or ``tuple[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        table = _table_of(inner)
        if table is not None:
            return table
    return None
