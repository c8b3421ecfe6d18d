"""The order in which a client visits its records."""

import numpy as np

from simulator.world.records import Array
from simulator.world.seeding import Key, generator
from simulator.world.specs import Recipe


def batches_of(size: int, forgotten: tuple[int, ...], recipe: Recipe, seed: int, key: Key, compact: bool) -> Array:
    """``[steps, batch_size]`` local record indices of one local training, -1 for an empty place.

    Args:
        size: the client's records before any deletion.
        forgotten: local indices left out.
        recipe: epochs and batch size.
        seed: the scenario's seed.
        key: purpose and instance of the order, client and round included.
        compact: False: the order over all ``size`` places, forgotten ones left empty, so that what is left keeps its
            batches; True: a fresh order over what is left.
    """
    return drawn(size, forgotten, recipe, generator(seed, *key), compact)


def drawn(size: int, forgotten: tuple[int, ...], recipe: Recipe, rng: np.random.Generator, compact: bool) -> Array:
    """The same by a generator that is at hand."""
    gone = list(forgotten)
    pool = np.delete(np.arange(size), gone) if compact and gone else np.arange(size)
    steps = -(-len(pool) // recipe.batch_size)
    places = np.full((recipe.local_epochs, steps * recipe.batch_size), -1, dtype=np.int64)
    for epoch in places:
        epoch[: len(pool)] = rng.permutation(pool)
    if gone and not compact:
        places[np.isin(places, gone)] = -1
    return places.reshape(-1, recipe.batch_size)
