"""Ridge statistics of blocks, whatever stands beside them in a message."""

from pathlib import Path

import numpy as np

from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import RIDGE, Bench
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.protocols.questions import RidgeFactors, RidgeStatistics

CLIENTS = (1, 4, 7, 9)
FORGETS = ({4: (0, 2)}, {4: (1,)}, {}, {1: (0,), 9: (3,)}, {4: (0, 1, 2)})


def test_statistics_are_those_of_what_is_retained_and_the_same_bits_alone(tmp_path: Path) -> None:
    bench = Bench(digits_population(), tmp_path)
    federation, population = bench.federation(), bench.population
    blocks = [Block(model=0, branch=i, clients=CLIENTS, forget=forget) for i, forget in enumerate(FORGETS)]
    together = federation.ask(RidgeStatistics(RIDGE, blocks))
    for block, found in zip(blocks, together, strict=True):
        rows = np.concatenate(
            [np.delete(population.rows(client), block.forget.get(client, ())) for client in CLIENTS], dtype=np.int64
        )
        x = np.c_[population.train_x[rows].astype(np.float64), np.ones(len(rows))]
        np.testing.assert_allclose(found.gram, x.T @ x, rtol=1e-12)
        np.testing.assert_allclose(found.moment, x.T @ np.eye(10)[population.train_y[rows]], rtol=1e-12)
        assert found.count == len(rows)
        [alone] = federation.ask(RidgeStatistics(RIDGE, [block]))
        assert np.array_equal(alone.gram, found.gram)
        assert np.array_equal(alone.moment, found.moment)


def test_factors_of_many_blocks_are_each_block_s_own(tmp_path: Path) -> None:
    bench = Bench(digits_population(), tmp_path)
    forgets = [forget for forget in FORGETS if forget]
    blocks = [Block(model=0, branch=i, clients=tuple(forget), forget=forget) for i, forget in enumerate(forgets)]
    for block, found in zip(blocks, bench.federation().ask(RidgeFactors(RIDGE, blocks)), strict=True):
        rows = np.concatenate([bench.population.rows(client, records) for client, records in block.forget.items()])
        x = np.c_[bench.population.train_x[rows].astype(np.float64), np.ones(len(rows))]
        np.testing.assert_allclose(found.root.T @ found.root, x.T @ x, atol=1e-12)
        np.testing.assert_allclose(found.moment, x.T @ np.eye(10)[bench.population.train_y[rows]], atol=1e-12)
        assert found.count == len(rows)
