"""The order in which a client visits its records, and what its training counts for."""

import numpy as np

from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import Key, generator
from palimpsest.simulator.world.specs import Recipe

_PADDED = 1024
"""A batch that no client can fill is padded to so many places at most: shapes decide about the last bits of a result,
and those of smaller batches are as they ever were."""


def fillable(batch_size: int, longest: int) -> int:
    """A batch size that trains the same, without places that nobody has records for.

    Args:
        batch_size: as the user gave it.
        longest: records of the largest client before any deletion.
    """
    return min(batch_size, max(longest, _PADDED))


def batches_of(size: int, forgotten: tuple[int, ...], recipe: Recipe, seed: int, key: Key, compact: bool) -> Array:
    """``[steps, batch_size]`` local record indices of one local training, -1 for an empty place.

    Args:
        size: the client's records before any deletion.
        forgotten: local indices left out.
        recipe: epochs or steps, and batch size.
        seed: the scenario's seed.
        key: purpose and instance of the order, client and round included.
        compact: False: the order over all ``size`` places, forgotten ones left empty, so that what is left keeps its
            batches; True: a fresh order over what is left.

    An epoch cuts one permutation into batches; each of ``local_steps`` takes the beginning of a permutation of its own.
    """
    return drawn(size, forgotten, recipe, generator(seed, *key), compact)


def drawn(size: int, forgotten: tuple[int, ...], recipe: Recipe, rng: np.random.Generator, compact: bool) -> Array:
    """The same by a generator that is at hand."""
    gone = list(forgotten)
    pool = np.delete(np.arange(size), gone) if compact and gone else np.arange(size)
    passes = recipe.local_steps or recipe.local_epochs
    width = (1 if recipe.local_steps else -(-len(pool) // recipe.batch_size)) * recipe.batch_size
    if passes == 1 and width == len(pool):
        places = rng.permutation(pool)
    else:
        places = np.full((passes, width), -1, dtype=np.int64)
        for line in places:
            order = rng.permutation(pool)[: len(line)]
            line[: len(order)] = order
    if gone and not compact:
        places[np.isin(places, gone)] = -1
    return places.reshape(-1, recipe.batch_size)


def placed(
    begin: int, size: int, forgotten: tuple[int, ...], recipe: Recipe, rng: np.random.Generator, compact: bool
) -> Array:
    """The same as rows of data in which the client's records start at ``begin``: what ``drawn`` draws, bit by bit.

    One pass over all that a client has is drawn where it is needed, as a round has it from all of its clients.
    """
    if forgotten or recipe.local_steps or recipe.local_epochs != 1:
        local = drawn(size, forgotten, recipe, rng, compact)
        return np.where(local < 0, -1, local + begin)
    short = -size % recipe.batch_size
    order = np.arange(begin, begin + size)
    rng.shuffle(order)
    if short:
        order = np.concatenate([order, np.full(short, -1)])
    return order.reshape(-1, recipe.batch_size)


def weigh(records: Array, recipe: Recipe) -> Array:
    """What the updates of clients with so many records each count for in the mean: so much, or 1 with local steps."""
    return np.minimum(records, 1) if recipe.local_steps else records
