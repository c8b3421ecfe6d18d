"""How many clients a host holds at once: no more records than said, where these are drawn, and whoever shares them."""

from pathlib import Path

import numpy as np

from palimpsest.clients.host import Host
from palimpsest.clients.local_data import LocalData
from palimpsest.clients.reader import Reader
from palimpsest.clients.tombstones import Tombstones
from palimpsest.clients.training import _cut
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.world.data.build import DataConfig, load_population
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.protocols.questions import Train
from palimpsest.simulator.world.specs import Ascent, ModelSpec, Recipe

CLIENT_BYTES = 50 * 784 * 4


def _drawn(place: Path) -> AbstractPopulation:
    return load_population(DataConfig(source="synthetic:mnist-like", clients=400), 0, place)


def _blocks(branches: int, blocks: int) -> list[Block]:
    return [Block(0, b, tuple(range(10 * i, 10 * i + 10)), {}) for b in range(branches) for i in range(blocks)]


def test_drawn_records_are_held_up_to_a_limit_and_stored_ones_take_none(tmp_path: Path) -> None:
    stored, drawn = (
        LocalData(Reader(population), 0, "arm", Tombstones(), "cpu", "highest")
        for population in (digits_population(), _drawn(tmp_path))
    )
    assert stored.drawn_in(2**24) == 0
    assert drawn.drawn_in(30 * CLIENT_BYTES) == 30
    assert drawn.drawn_in(1) == 1


def test_groups_hold_so_many_clients_and_those_of_several_branches_once() -> None:
    one, several = _blocks(branches=1, blocks=12), _blocks(branches=6, blocks=2)
    assert [len(group) for group in _cut(one, most=60)] == [6, 6]
    assert [len(group) for group in _cut(one, most=60, different=30)] == [3, 3, 3, 3]
    assert [len(group) for group in _cut(several, most=1000, different=30)] == [12]
    assert [len(group) for group in _cut(one, most=5)] == [1] * 12
    up = [Block(0, 0, (1,), {1: (0,)}, ascent=Ascent(epochs=1, learning_rate=0.1))]
    assert [len(group) for group in _cut([*one[:2], *up, *one[2:4]], most=1000)] == [2, 1, 2]


def test_a_block_s_sums_are_the_same_bits_however_many_are_asked_for(tmp_path: Path) -> None:
    spec = ModelSpec(kind="softmax", task="classification", shape=(1, 28, 28), outputs=10, regularisation=0.0)
    host = Host(Reader(_drawn(tmp_path)), 0, "arm", Tombstones())
    start, blocks = model_of(spec).init(np.random.default_rng(0)), _blocks(branches=2, blocks=13)
    alone = {}
    for i in (0, 7, 12, 25):
        [answer] = host.ask(Train(spec, [blocks[i]], [start], 0, Recipe(), each=True))
        alone[i] = answer.sums, {name: value.copy() for name, value in answer.each.items()}
    together = host.ask(Train(spec, blocks, [start], 0, Recipe(), each=True))  # packs in the same memory
    for i, (sums, each) in alone.items():
        assert all(np.array_equal(sums[name], together[i].sums[name]) for name in start)
        assert all(np.array_equal(each[name], together[i].each[name]) for name in start)
