"""Every random choice is derived from the scenario's seed and its purpose; nothing is seeded globally.

A small seed can be guessed by trying. Under a secret the streams start from a number of 128 bits that nobody else has,
and each purpose from a hash of it: PCG64 is no cipher, and what can be worked out of numbers that everybody sees, such
as the initial model, must lead to no other stream.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np

from palimpsest.simulator.world.records import Array

Key = tuple[str, *tuple[int, ...]]
"""A purpose, then integers that tell its instances apart: ``("batches", client, round)``."""


LARGEST = 2**63 - 1
"""Seed of a scenario, at most."""
_SECRET = 1 << 128
"""From here on a seed holds a secret."""


def seed_under(secret: str, seed: int) -> int:
    """What all streams of a run start from: the scenario's seed, or under a secret a number that nobody can guess.

    Args:
        secret: of the run; empty: none.
        seed: of the scenario, up to ``LARGEST``.
    """
    if not secret:
        return seed
    return _SECRET | _number(f"{seed}|{secret}")


def seed_for_others(seed: int, purpose: str) -> int:
    """A seed for another library's generator: 31 bits, which can be tried out, and under a secret 128."""
    rng = generator(seed, purpose)
    return int(rng.integers(2**31)) if seed < _SECRET else int.from_bytes(rng.bytes(16), "little")


def seed_apart(seed: int, purpose: str) -> int:
    """A seed that may be kept beside what is drawn with it: under a secret one that leads to no other stream."""
    return seed if seed < _SECRET else _SECRET | _number(f"{seed}|{purpose}|apart")


def part_of(key: Key, part: str) -> Key:
    """A stream beside another one, for another part of the same purpose."""
    purpose, *instance = key
    return (f"{purpose}/{part}", *instance)


def generator(seed: int, purpose: str, *instance: int) -> np.random.Generator:
    """Return the generator of one purpose: equal arguments give equal streams, others independent ones.

    Args:
        seed: non-negative, see ``seed_under``.
        purpose: what the numbers are for; hashed, so that purposes never collide by their position.
        instance: non-negative integers such as (client, round).

    Example:
        >>> first, again, other = (generator(0, "batches", client).random() for client in (1, 1, 2))
        >>> first == again, first == other
        (True, False)
    """
    return np.random.default_rng(np.random.SeedSequence([*_roots(seed, purpose), *instance]))


def generators(seed: int, keys: Iterable[Key]) -> Iterator[np.random.Generator]:
    """Yield ``generator(seed, *key)`` for each key, at a fraction of the cost where keys of one purpose come in a row.

    It is one object, set to the next stream at each turn: use it before asking for the next.

    Args:
        seed: see ``seed_under``.
        keys: whose integers are below 2^32.
    """
    bits = np.random.PCG64(0)
    rng, state = np.random.Generator(bits), bits.state
    for (purpose, _), alike in groupby(keys, key=lambda key: (key[0], len(key))):
        instances = np.array([key[1:] for key in alike], dtype=np.uint32)
        for high, low, upper, lower in _seed_words(seed, purpose, instances).tolist():
            # How PCG64 takes its seed: O'Neill's pcg_setseq_128_srandom.
            odd = ((upper << 64 | lower) << 1 | 1) % 2**128
            state["state"] = {"state": ((odd + (high << 64 | low)) * _MULTIPLIER + odd) % 2**128, "inc": odd}
            bits.state = state
            yield rng


_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645


def _seed_words(seed: int, purpose: str, instances: Array) -> Array:
    """``[n, 4]`` uint64: ``SeedSequence([*roots, *instance]).generate_state(4, uint64)`` of n instances at once.

    NumPy's ``SeedSequence`` (a documented, stable algorithm) on arrays in place of numbers; a test holds them equal.
    """
    shared = [word for number in _roots(seed, purpose) for word in _words(number)]
    entropy = [np.full(len(instances), word, np.uint32) for word in shared] + list(instances.T)
    entropy += [np.zeros(len(instances), np.uint32)] * (4 - len(entropy))
    constants = _constants(0x43B0D7E5, 0x931E8875)
    pool = [_hashed(word, constants) for word in entropy[:4]]
    for source in range(4):
        for target in range(4):
            if source != target:
                pool[target] = _mixed(pool[target], _hashed(pool[source], constants))
    for word in entropy[4:]:
        pool = [_mixed(kept, _hashed(word, constants)) for kept in pool]
    constants = _constants(0x8B51F9DD, 0x58F38DED)
    drawn = [_hashed(pool[i % 4], constants) for i in range(8)]
    return np.stack(drawn, axis=1).astype("<u4").view("<u8")


def _constants(start: int, factor: int) -> Iterator[tuple[np.uint32, np.uint32]]:
    while True:
        following = start * factor % 2**32
        yield np.uint32(start), np.uint32(following)
        start = following


def _hashed(word: Array, constants: Iterator[tuple[np.uint32, np.uint32]]) -> Array:
    before, after = next(constants)
    hashed: Array = (word ^ before) * after
    return _folded(hashed)


def _mixed(kept: Array, word: Array) -> Array:
    return _folded(np.uint32(0xCA01F9DD) * kept - np.uint32(0x4973F715) * word)


def _folded(word: Array) -> Array:
    folded: Array = word ^ (word >> np.uint32(16))
    return folded


def _roots(seed: int, purpose: str) -> tuple[int, ...]:
    """What the streams of one purpose have in common."""
    return (seed, _word(purpose)) if seed < _SECRET else (_number(f"{seed}|{purpose}"),)


def _number(text: str) -> int:
    """128 bits that lead back to the text by trying texts alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def _word(purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")


def _words(number: int) -> list[int]:
    """Little-endian digits in base 2^32."""
    return [number & 0xFFFFFFFF, *(_words(number >> 32) if number >> 32 else ())]
