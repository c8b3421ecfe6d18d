"""A planted trigger: who carries it, and who does not."""

from typing import Any

import numpy as np
import pytest

from palimpsest.simulator.world.data.backdoor import marked
from palimpsest.simulator.world.data.build import DataConfig, build_population
from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.errors import DataError

PATCH = {"target": 3, "patch": [6, 6, 2, 2], "clients": [1, 4]}


def _digits(backdoor: dict[str, Any] | None) -> tuple[DataConfig, Population]:
    data = DataConfig.model_validate({"source": "digits", "clients": 6, "backdoor": backdoor})
    return data, build_population(data, seed=0)


def _carries(population: Population) -> np.ndarray:
    return (population.train_x.reshape(-1, 8, 8)[:, 6:, 6:] == 1.0).all((1, 2)) & (population.train_y == 3)


def test_carriers_hold_it_and_nobody_else_has_changed() -> None:
    _, plain = _digits(None)
    _, planted = _digits(PATCH | {"share": 0.25})
    assert (plain.offsets == planted.offsets).all()
    for name in ("public_x", "public_y", "test_x", "test_y", "box_low", "box_high"):
        assert np.array_equal(getattr(plain, name), getattr(planted, name))
    changed = (plain.train_x != planted.train_x).any(1) | (plain.train_y != planted.train_y)
    for client in range(6):
        own = slice(int(plain.offsets[client]), int(plain.offsets[client + 1]))
        wanted = round(0.25 * int(plain.sizes[client])) if client in PATCH["clients"] else 0
        assert _carries(planted)[own].sum() == wanted
        assert changed[own].sum() <= wanted
    other = np.ones((8, 8), dtype=bool)
    other[6:, 6:] = False
    assert np.array_equal(plain.train_x[:, other.ravel()], planted.train_x[:, other.ravel()])


def test_without_clients_everybody_carries_it_at_least_once() -> None:
    _, planted = _digits(PATCH | {"clients": [], "share": 1e-6})
    owners = np.repeat(np.arange(6), planted.sizes)
    assert np.bincount(owners, _carries(planted)).tolist() == [1.0] * 6


def test_columns_of_a_table_are_marked_by_name_or_position() -> None:
    backdoor = {"target": 1, "columns": ["mean area", 0], "value": 4.0, "clients": [0]}
    data = DataConfig.model_validate({"source": "breast-cancer", "clients": 3, "backdoor": backdoor})
    population = build_population(data, seed=0)
    names = population.schema.feature_names
    own = population.train_x[: population.sizes[0]]
    assert (own[:, [0, names.index("mean area")]] == 4.0).all()
    assert (population.train_y[: population.sizes[0]] == 1).all()
    assert data.backdoor is not None
    triggered = marked(data.backdoor, population.schema, population.test_x)
    assert (triggered[:, 0] == 4.0).all()
    assert np.array_equal(np.delete(triggered, [0, 3], 1), np.delete(population.test_x, [0, 3], 1))


@pytest.mark.parametrize(
    ("source", "backdoor", "words"),
    [
        ("digits", PATCH | {"patch": [7, 7, 2, 2]}, "reaches beyond images of 8 x 8"),
        ("digits", PATCH | {"target": 10}, "classes go from 0 to 9"),
        ("digits", PATCH | {"clients": [6]}, "ids go from 0 to 5"),
        ("digits", {"columns": [0]}, "has images; give data.backdoor.patch"),
        ("breast-cancer", PATCH | {"target": 1}, "is a table; give data.backdoor.columns"),
        ("breast-cancer", {"columns": ["mean arena"]}, "holds 'mean arena'"),
        ("diabetes", {"columns": [0]}, "real-valued target"),
    ],
)
def test_a_mark_that_does_not_fit_is_refused(source: str, backdoor: dict[str, Any], words: str) -> None:
    scheme = {"scheme": "iid"} if source == "diabetes" else {}
    data = DataConfig.model_validate({"source": source, "clients": 6, "partition": scheme, "backdoor": backdoor})
    with pytest.raises(DataError, match=words):
        build_population(data, seed=0)
