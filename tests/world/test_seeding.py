"""Many streams at once are the streams that NumPy gives one by one."""

import numpy as np

from palimpsest.simulator.world.seeding import generator, generators


def test_many_streams_at_once_are_those_of_numpy() -> None:
    keys = [("batches", client, round) for client in (0, 1, 2**32 - 1) for round in (0, 7)]
    keys += [("other", 3), ("other", 4), ("batches", 1, 2, 3, 4, 5)]
    for seed in (0, 1, 2**40, 2**100):
        for rng, key in zip(generators(seed, keys), keys, strict=True):
            single = generator(seed, *key)
            assert rng.integers(2**63) == single.integers(2**63)
            assert np.array_equal(rng.permutation(17), single.permutation(17))
            assert rng.random() == single.random()
