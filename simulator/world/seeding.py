"""Every random choice is derived from the scenario's seed and its purpose; nothing is seeded globally."""

import hashlib

import numpy as np

Key = tuple[str, *tuple[int, ...]]
"""A purpose, then integers that tell its instances apart: ``("batches", client, round)``."""


def part_of(key: Key, part: str) -> Key:
    """A stream beside another one, for another part of the same purpose."""
    purpose, *instance = key
    return (f"{purpose}/{part}", *instance)


def generator(seed: int, purpose: str, *instance: int) -> np.random.Generator:
    """Return the generator of one purpose: equal arguments give equal streams, others independent ones.

    Args:
        seed: the scenario's seed, non-negative.
        purpose: what the numbers are for; hashed, so that purposes never collide by their position.
        instance: non-negative integers such as (client, round).
    """
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return np.random.default_rng(np.random.SeedSequence([seed, word, *instance]))
