"""By which hyper-parameter the noise of a defense grows, and what readers call it."""

from collections.abc import Mapping
from typing import Any

STRENGTHS: Mapping[str, str] = {"noise_multiplier": "noise multiplier", "sigma": "sigma"}
"""Of built-in defenses, and of others that call it so; none has two."""


def strength_of(defense: Mapping[str, Any]) -> tuple[str, float] | None:
    """The name of that hyper-parameter and its value; None where a defense states no number.

    Args:
        defense: its hyper-parameters by name.
    """
    for name in STRENGTHS:
        value = defense.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return name, float(value)
    return None
