"""Nested tables as flat names and values, as MLflow takes them."""

import json
from collections.abc import Mapping
from typing import Any

_SETTINGS = ("unlearning", "defense", "seed", "data", "deletion", "requests")
"""Settings of an arm, and the rows of its requests: no metrics."""


def flattened(tree: Any, path: str = "") -> dict[str, str]:
    """Dotted names and texts of the leaves; entries of a list of tables are numbered, other lists are one text."""
    if isinstance(tree, Mapping):
        parts = tree.items()
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        parts = {str(index): item for index, item in enumerate(tree)}.items()
    else:
        return {path: tree if isinstance(tree, str) else json.dumps(tree)}
    found: dict[str, str] = {}
    for key, value in parts:
        found |= flattened(value, f"{path}.{key}" if path else str(key))
    return found


def numbers(tree: Any, path: str = "") -> dict[str, float]:
    """Slash-separated names and values of the numeric leaves; an interval has ``low`` and ``high``, seeds are none."""
    if isinstance(tree, bool | int | float):
        return {path: float(tree)}
    if isinstance(tree, Mapping):
        parts = {key: value for key, value in tree.items() if key not in _SETTINGS}
    elif isinstance(tree, list) and path.endswith("ci95") and len(tree) == 2:
        parts = {"low": tree[0], "high": tree[1]}
    elif isinstance(tree, list):
        parts = {str(index): value for index, value in enumerate(tree)}
    else:
        return {}
    found: dict[str, float] = {}
    for key, value in parts.items():
        found |= numbers(value, f"{path}/{key}" if path else str(key))
    return found
