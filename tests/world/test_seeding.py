"""Many streams at once are the streams that NumPy gives one by one; a secret decides about all of them."""

import numpy as np

from palimpsest.simulator.world.seeding import (
    LARGEST,
    generator,
    generators,
    seed_apart,
    seed_for_others,
    seed_under,
)

SECRET = "a secret of a run"


def test_many_streams_at_once_are_those_of_numpy() -> None:
    keys = [("batches", client, round) for client in (0, 1, 2**32 - 1) for round in (0, 7)]
    keys += [("other", 3), ("other", 4), ("batches", 1, 2, 3, 4, 5)]
    for seed in (0, 1, 2**40, 2**100, seed_under(SECRET, 0)):
        for rng, key in zip(generators(seed, keys), keys, strict=True):
            single = generator(seed, *key)
            assert rng.integers(2**63) == single.integers(2**63)
            assert np.array_equal(rng.permutation(17), single.permutation(17))
            assert rng.random() == single.random()


def test_without_a_secret_a_seed_stays_what_it_was() -> None:
    assert [seed_under("", seed) for seed in (0, 7, LARGEST)] == [0, 7, LARGEST]
    assert seed_apart(7, "synthetic") == 7
    assert seed_for_others(7, "partition") == int(generator(7, "partition").integers(2**31))
    assert generator(0, "batches", 1, 2).integers(2**63) == np.random.default_rng(
        np.random.SeedSequence([0, 16089598117798311494, 1, 2])
    ).integers(2**63)


def test_secret_seed_and_purpose_decide_about_a_stream() -> None:
    seeds = [seed_under(secret, seed) for secret in (SECRET, SECRET + "s") for seed in (0, 1)]
    assert min(seeds) > LARGEST
    seeds += [seed_apart(seed, "synthetic") for seed in seeds]
    drawn = {int(generator(seed, purpose).integers(2**63)) for seed in seeds for purpose in ("init", "partition")}
    assert len(drawn) == 2 * len(seeds)
    assert len({seed_for_others(seed, "partition") for seed in seeds}) == len(seeds)
    assert seed_for_others(seeds[0], "partition").bit_length() > 100


def test_what_starts_one_purpose_is_not_what_starts_another() -> None:
    """A purpose's streams start from 128 bits of its own, and not from the seed beside the purpose's name."""
    seed = seed_under(SECRET, 0)
    starts = [generator(seed, purpose).bit_generator.seed_seq.entropy for purpose in ("init", "batches")]  # type: ignore[attr-defined]
    assert all(len(start) == 1 and start[0] < 2**128 and start[0] != seed for start in starts)
    assert starts[0] != starts[1]
