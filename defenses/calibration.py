"""How much noise a given epsilon asks for."""

from collections.abc import Callable

PRECISION = 1e-3
"""Relative precision of the noise; it errs on the side of more."""
SMALLEST, LARGEST = 1e-6, 1e6
"""The least and the most noise that is tried."""


def smallest_noise(spends: Callable[[float], float], target: float) -> float:
    """The smallest noise multiplier whose epsilon is at most ``target``, by bisection; it never exceeds the target.

    Args:
        spends: epsilon of a noise multiplier; falls as it grows.
        target: above 0.

    Raises:
        ValueError: even ``LARGEST`` would not do; says what it reaches.
    """
    high = 1.0
    while spends(high) > target:
        if high >= LARGEST:
            raise ValueError(
                f"can't be reached; the lowest is {spends(LARGEST):.2g}, at a noise multiplier of {LARGEST:g}"
            )
        high = min(2.0 * high, LARGEST)
    low = high / 2.0 if high > 1.0 else 0.0
    while high - low > PRECISION * high and high > SMALLEST:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if spends(middle) <= target else (middle, high)
    return max(high, SMALLEST)
