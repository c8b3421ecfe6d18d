"""Where the noise of differential privacy comes from: a stream of its own, or the operating system."""

import os
from typing import Protocol

import numpy as np

from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import Key, generator

SECRET: Key = ("secret",)
"""In the place of a stream: the operating system's randomness, which no seed brings back."""


class Noise(Protocol):
    """What noise is drawn from; numpy's generators are such a source."""

    def standard_normal(self, size: tuple[int, ...]) -> Array:
        """Draw from N(0, 1)."""
        ...

    def random(self, size: tuple[int, ...]) -> Array:
        """Draw uniformly from [0, 1)."""
        ...


class SystemNoise:
    """The operating system's randomness, 53 bits a number; it can't be repeated."""

    def standard_normal(self, size: tuple[int, ...]) -> Array:
        """Draw from N(0, 1), by the inverse of its distribution function."""
        from scipy.special import ndtri  # takes a while to import, and few hosts draw such noise

        drawn: Array = ndtri(self._bits(size) * 2.0**-53 + 2.0**-54)
        return drawn

    def random(self, size: tuple[int, ...]) -> Array:
        """Draw uniformly from [0, 1)."""
        return self._bits(size) * 2.0**-53

    def _bits(self, size: tuple[int, ...]) -> Array:
        count = int(np.prod(size, dtype=np.int64))
        words = np.frombuffer(os.urandom(8 * count), dtype=np.uint64) >> np.uint64(11)
        return words.astype(np.float64).reshape(size)


def noise_of(seed: int, key: Key, *instance: int) -> Noise:
    """The noise of one purpose: equal arguments give equal noise, unless the key is ``SECRET``."""
    return SystemNoise() if key == SECRET else generator(seed, *key, *instance)
