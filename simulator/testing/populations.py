"""Small populations, made of scikit-learn's digits."""

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Schema


@cache
def digits_arrays() -> tuple[Array, Array]:
    """``[n, 64]`` x up to 16 and ``[n]`` y as scikit-learn reads them, which takes longer than most checks on them."""
    x, y = load_digits(return_X_y=True)
    return x, y


def digits_population(clients: int = 12, records: int = 300, seed: int = 0) -> Population:
    """Digits dealt to clients of very different sizes; 200 public records, 200 for testing."""
    x, y = digits_arrays()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    x, y = (x[order] / 16.0).astype(np.float32), y[order].astype(np.int64)
    cuts = np.sort(rng.choice(np.arange(1, records), size=clients - 1, replace=False))
    return Population(
        schema=Schema(name="digits", task="classification", shape=(1, 8, 8), outputs=10),
        train_x=x[:records],
        train_y=y[:records],
        offsets=np.concatenate([[0], cuts, [records]]).astype(np.int64),
        public_x=x[records : records + 200],
        public_y=y[records : records + 200],
        test_x=x[records + 200 : records + 400],
        test_y=y[records + 200 : records + 400],
        box_low=np.zeros(64),
        box_high=np.ones(64),
        preprocessing={},
    )


def with_records_replaced(population: Population, forget: dict[int, tuple[int, ...]], root: Path) -> Population:
    """The same population with other x and y in the places of some records: the counterfactual of a deletion."""
    x, y = np.array(population.train_x), np.array(population.train_y)
    for client, records in forget.items():
        rows = population.rows(client, records)
        x[rows] = np.random.default_rng(99).random((len(rows), x.shape[1]), dtype=np.float32)
        y[rows] = (y[rows] + 5) % 10
    changed = Population(**{**_fields(population), "train_x": x, "train_y": y})
    return Population.open(changed.save(root))


def with_an_empty_client(population: Population) -> Population:
    """The same records, and one client more who has none of them."""
    offsets = np.append(population.offsets, population.offsets[-1])
    return Population(**{**_fields(population), "offsets": offsets})


def _fields(population: Population) -> dict[str, Any]:
    return {field.name: getattr(population, field.name) for field in fields(population)}
