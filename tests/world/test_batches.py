"""The order in which a client visits its records."""

import numpy as np
import pytest

from palimpsest.simulator.world.models.batches import batches_of, drawn, placed, weigh
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Recipe

RECIPE = Recipe(batch_size=4, local_epochs=3)


def test_every_epoch_visits_every_record_once() -> None:
    batches = batches_of(10, (), RECIPE, 0, ("batches", 1), compact=False)
    assert batches.shape == (9, 4)
    for epoch in batches.reshape(3, -1):
        assert sorted(epoch[epoch >= 0]) == list(range(10))


def test_same_order_leaves_the_places_of_forgotten_records_empty() -> None:
    whole = batches_of(10, (), RECIPE, 0, ("batches", 1), compact=False)
    masked = batches_of(10, (3, 7), RECIPE, 0, ("batches", 1), compact=False)
    assert np.array_equal(masked, np.where(np.isin(whole, (3, 7)), -1, whole))


def test_reshuffled_orders_are_compact() -> None:
    compact = batches_of(10, (3, 7), RECIPE, 0, ("batches", 1), compact=True)
    assert compact.shape == (6, 4)
    for epoch in compact.reshape(3, -1):
        assert sorted(epoch) == [0, 1, 2, 4, 5, 6, 8, 9]


def test_orders_differ_by_client_round_and_seed() -> None:
    keys = [("batches", 1, 2), ("batches", 2, 1), ("batches", 1, 3), ("other", 1, 2)]
    orders = [batches_of(30, (), RECIPE, seed, key, compact=False).tobytes() for seed in (0, 1) for key in keys]
    assert len(set(orders)) == len(orders)


def test_local_steps_draw_a_batch_each() -> None:
    recipe = Recipe(batch_size=4, local_steps=50)
    whole = batches_of(10, (), recipe, 0, ("batches", 1), compact=False)
    assert whole.shape == (50, 4)
    assert all(len(set(batch)) == 4 for batch in whole)
    counts = np.bincount(whole.ravel(), minlength=10)
    assert counts.sum() == 200 and counts.min() > 5  # 20 expected of each; below 6 has probability 1e-5
    masked = batches_of(10, (3, 7), recipe, 0, ("batches", 1), compact=False)
    assert np.array_equal(masked, np.where(np.isin(whole, (3, 7)), -1, whole))
    few = batches_of(3, (1,), recipe, 0, ("batches", 1), compact=True)
    assert np.array_equal(np.sort(few), np.tile([-1, -1, 0, 2], (50, 1)))


def test_clients_weigh_their_records_or_one() -> None:
    records = np.array([0, 1, 7])
    assert weigh(records, Recipe()).tolist() == [0, 1, 7]
    assert weigh(records, Recipe(local_steps=1)).tolist() == [0, 1, 1]


@pytest.mark.parametrize("size", [0, 3, 30, 31])
@pytest.mark.parametrize("changes", [{}, {"local_epochs": 2}, {"local_steps": 2}])
def test_rows_of_data_are_what_is_drawn_of_a_client(size: int, changes: dict[str, int]) -> None:
    recipe = Recipe.model_validate({"batch_size": 10} | changes)
    for forgotten, compact in (((), False), ((1, 2), False), ((1, 2), True)):
        if max(forgotten, default=-1) >= size:
            continue
        first, again = (generator(3, "batches", size) for _ in range(2))
        local = drawn(size, forgotten, recipe, first, compact)
        rows = placed(100, size, forgotten, recipe, again, compact)
        assert rows.shape == local.shape and rows.dtype == local.dtype
        assert np.array_equal(rows, np.where(local < 0, -1, local + 100))
        assert first.random() == again.random()
