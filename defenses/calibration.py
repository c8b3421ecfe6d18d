"""How much noise a given epsilon asks for."""

from collections.abc import Callable
from typing import Any

from palimpsest.simulator.world.specs import either

PRECISION = 1e-3
"""Relative precision of the noise; it errs on the side of more."""
LARGEST = 1e4


def smallest_noise(spends: Callable[[float], float], target: float) -> float:
    """The smallest noise multiplier whose epsilon is at most ``target``, by bisection; it never exceeds the target.

    Args:
        spends: epsilon of a noise multiplier; falls as it grows.
        target: above 0.

    Raises:
        ValueError: even ``LARGEST`` would not do.
    """
    high = 1.0
    while spends(high) > target:
        high *= 2.0
        if high > LARGEST:
            raise ValueError(f"no noise multiplier up to {LARGEST:g} reaches epsilon = {target:g}")
    low = high / 2.0 if high > 1.0 else 0.0
    while high - low > PRECISION * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if spends(middle) <= target else (middle, high)
    return high


def one_strength(given: Any, default: float) -> Any:
    """Fill in the noise multiplier where a defense's raw fields set no strength.

    Args:
        given: as a validator gets them before they are checked.
        default: the noise multiplier where neither it nor a target is given.

    Raises:
        ValueError: both are given.
    """
    if not isinstance(given, dict):
        return given
    if either(given, ("noise_multiplier", "target_epsilon"), "each set the noise; give one"):
        return given
    return given | {"noise_multiplier": default}
