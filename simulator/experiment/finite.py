"""Figures that are no numbers: models may be finite, and what is measured of them may not be."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from palimpsest.simulator.world.errors import SettledFailure


def not_finite(tree: Any, path: str = "") -> str:
    """Where in nested mappings and lists the first float is that is infinite or NaN; empty: all are finite."""
    return next(_not_finite(tree, path), "")


def check_measured(entry: Mapping[str, Any]) -> None:
    """Refuse an arm's entry that holds such a figure.

    Raises:
        SettledFailure: it does, whoever measures again.
    """
    if name := not_finite(entry):
        raise SettledFailure(
            f"its {name} is not finite, as its models have grown too large to be measured: lower the learning rate, or "
            f"raise the regulariser"
        )


def _not_finite(tree: Any, path: str) -> Iterator[str]:
    if isinstance(tree, float) and not math.isfinite(tree):
        yield path
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _not_finite(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for position, value in enumerate(tree):
            yield from _not_finite(value, f"{path}.{position}")
