"""Populations: every record in one place, statistics of the public sample only, the same for the same seed."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.simulator.world.data.build import (
    DataConfig,
    build_population,
    load_population,
    median_bandwidth,
    population_directory,
)
from palimpsest.simulator.world.data.partition import PartitionConfig, partition
from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.errors import DataError

LABELS = np.random.default_rng(0).integers(0, 10, 600)
ARRAYS = ("train_x", "train_y", "offsets", "public_x", "public_y", "test_x", "test_y", "box_low", "box_high")


def table(directory: Path, **changes: Any) -> Path:
    """An npz table: two numeric columns (the second constant) and one of category codes."""
    rng = np.random.default_rng(7)
    n = 300
    x = np.column_stack([rng.normal(50, 9, n), np.full(n, 0.1), rng.integers(2, 5, n)])
    arrays: dict[str, Any] = {
        "x": x,
        "y": rng.integers(0, 3, n),
        "client": rng.choice([4, 9, 11, 20], n),
        "is_categorical": np.array([False, False, True]),
        "feature_names": np.array(["age", "one", "job"]),
    }
    path = directory / "people.npz"
    np.savez(path, **(arrays | changes))
    return path


def rows(*parts: np.ndarray) -> Counter[bytes]:
    """Records as a multiset of their bytes."""
    return Counter(row.tobytes() for part in parts for row in np.asarray(part, np.float32))


@pytest.mark.parametrize(
    "config",
    [
        PartitionConfig(scheme="iid"),
        PartitionConfig(scheme="dirichlet", alpha=0.5, min_records=3),
        PartitionConfig(scheme="pathological", classes_per_client=2),
    ],
    ids=lambda config: config.scheme,
)
def test_every_record_has_one_owner_and_the_seed_decides_which(config: PartitionConfig) -> None:
    shares, ids = partition(config, LABELS, None, 40, seed=1)
    assert ids == () and len(shares) == 40
    assert np.array_equal(np.sort(np.concatenate(shares)), np.arange(600))
    again, _ = partition(config, LABELS, None, 40, seed=1)
    assert all(np.array_equal(one, other) for one, other in zip(shares, again, strict=True))
    other, _ = partition(config, LABELS, None, 40, seed=2)
    assert any(not np.array_equal(one, two) for one, two in zip(shares, other, strict=True))


def test_iid_shares_are_equal_and_mixed() -> None:
    shares, _ = partition(PartitionConfig(scheme="iid"), np.sort(LABELS), None, 7, seed=0)
    assert {len(share) for share in shares} == {85, 86}
    assert all(len(np.unique(np.sort(LABELS)[share])) == 10 for share in shares)


def test_dirichlet_is_as_uneven_as_alpha_says_and_leaves_nobody_short() -> None:
    def sizes(alpha: float) -> list[int]:
        shares, _ = partition(PartitionConfig(alpha=alpha, min_records=4), LABELS, None, 50, seed=0)
        return [len(share) for share in shares]

    assert min(sizes(0.05)) == 4 and sum(sizes(0.05)) == 600
    assert np.std(sizes(0.05)) > 2 * np.std(sizes(100.0))
    # as many records as can be asked for: the draw alone would never end so
    exact, _ = partition(PartitionConfig(alpha=0.05), LABELS, None, 600, seed=0)
    assert [len(share) for share in exact] == [1] * 600


def test_pathological_clients_hold_few_classes() -> None:
    shares, _ = partition(PartitionConfig(scheme="pathological", classes_per_client=3), LABELS, None, 20, seed=0)
    assert all(len(np.unique(LABELS[share])) == 3 for share in shares)


def test_natural_clients_are_the_ids_in_order() -> None:
    sites = np.random.default_rng(1).choice([3, 8, 30], 600)
    shares, ids = partition(PartitionConfig(scheme="natural"), LABELS, sites, 0, seed=0)
    assert ids == (3, 8, 30)
    assert all(
        np.array_equal(np.sort(share), np.flatnonzero(sites == site)) for share, site in zip(shares, ids, strict=True)
    )


@pytest.mark.parametrize(
    "config, labels, clients, needed",
    [
        (PartitionConfig(scheme="iid"), LABELS, 601, "clients = 601.*600 are left.*at most 600"),
        (PartitionConfig(min_records=5), LABELS, 121, "at least 5.*605 records.*at most 120"),
        (PartitionConfig(scheme="natural"), LABELS, 0, "`client` column.*use iid or dirichlet"),
        (PartitionConfig(), LABELS.astype(np.float32), 5, "'dirichlet' divides classes.*regression; use iid"),
        (PartitionConfig(scheme="pathological", classes_per_client=11), LABELS, 5, "cannot be divided so"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    config: PartitionConfig, labels: np.ndarray, clients: int, needed: str
) -> None:
    with pytest.raises(DataError, match=needed):
        partition(config, labels, None, clients, seed=0)


def test_clients_public_and_test_records_are_disjoint_and_nothing_is_lost() -> None:
    data = DataConfig(source="diabetes", clients=9, partition=PartitionConfig(scheme="iid"))
    population = build_population(data, 0)
    counts = [len(part) for part in (population.train_x, population.public_x, population.test_x)]
    assert counts == [221, 133, 88]
    together = rows(population.train_x, population.public_x, population.test_x)
    assert len(together) == 442 and set(together.values()) == {1}  # diabetes has no record twice


def test_public_statistics_alone_decide_the_encoding(tmp_path: Path) -> None:
    path = table(tmp_path)
    with np.load(path) as file:
        original = file["x"]
    marked = original.copy()
    marked[:, 0] = np.arange(300)  # a number that finds each record again
    data = DataConfig(source=str(table(tmp_path, x=marked)), clients=5)
    before = build_population(data, 0)
    mean, scale = before.preprocessing["mean"][0], before.preprocessing["scale"][0]
    public = np.rint(before.public_x[:, 0] * scale + mean).astype(int)
    assert mean == pytest.approx(public.mean()) and scale == pytest.approx(public.std())
    assert before.preprocessing["scale"][1] == 1.0 and np.all(before.public_x[:, 1] == 0.0)  # does not vary
    replaced = marked.copy()
    private = np.setdiff1d(np.arange(300), public)
    replaced[private, 0] += 1e6
    replaced[private, 2] = 7  # a category that nobody public has
    after = build_population(data.model_copy(update={"source": str(table(tmp_path, x=replaced))}), 0)
    for name in ("public_x", "public_y", "test_y", "train_y", "offsets", "box_low", "box_high"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name
    assert (before.preprocessing, before.schema) == (after.preprocessing, after.schema)
    assert not np.array_equal(before.train_x, after.train_x)
    assert np.all(after.train_x[:, 2:] == 0.0)


def test_tables_are_standardised_and_categories_one_hot_where_they_stood(tmp_path: Path) -> None:
    data = DataConfig(source=str(table(tmp_path)), clients=5)
    population = build_population(data, 0)
    assert population.schema.feature_names == ("age", "one", "job=2", "job=3", "job=4")
    assert population.schema.shape == (5,) and population.schema.outputs == 3
    assert population.public_x[:, 0].mean() == pytest.approx(0.0, abs=1e-6)
    assert population.public_x[:, 0].std() == pytest.approx(1.0, abs=1e-6)
    for part in (population.train_x, population.public_x, population.test_x):
        assert part.dtype == np.float32
        assert set(np.unique(part[:, 2:])) == {0.0, 1.0} and np.all(part[:, 2:].sum(axis=1) == 1.0)
    assert np.array_equal(population.box_low, population.public_x.min(axis=0).astype(np.float64))


def test_images_are_scaled_and_their_channels_come_first(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(50) % 2)
    population = build_population(DataConfig(source=str(tmp_path / "a.npz"), clients=3), 0)
    assert population.schema.shape == (3, 4, 5) and population.schema.is_image
    expected = rows(np.stack([np.moveaxis(image, -1, 0).ravel() for image in x]).astype(np.float32) / np.float32(255))
    assert rows(population.train_x, population.public_x, population.test_x) == expected
    assert (population.box_low.tolist(), population.box_high.tolist()) == ([0.0] * 60, [1.0] * 60)


def test_natural_sites_by_name_or_id(tmp_path: Path) -> None:
    names = np.array([f"site{k}" for k in range(21)])
    path = str(table(tmp_path, client_names=names))
    natural = PartitionConfig(scheme="natural")
    population = build_population(DataConfig(source=path, partition=natural, sites=("site20", 9)), 0)
    assert population.schema.site_names == ("site9", "site20") and population.clients == 2
    with pytest.raises(DataError, match=r"'nowhere'.*no such client; it has site0"):
        build_population(DataConfig(source=path, partition=natural, sites=("nowhere",)), 0)
    with pytest.raises(DataError, match="`client` column, and 'digits' has none"):
        build_population(DataConfig(source="digits", sites=(1,)), 0)


def test_a_split_of_the_source_is_kept(tmp_path: Path) -> None:
    split = np.array([0] * 200 + [1] * 60 + [2] * 40)
    number = np.column_stack([np.arange(300.0), np.zeros(300), np.full(300, 2.0)])
    path = str(table(tmp_path, split=split, x=number))

    def numbers(test_fraction: float) -> tuple[np.ndarray, np.ndarray]:
        population = build_population(DataConfig(source=path, clients=4, test_fraction=test_fraction), 0)
        mean, scale = population.preprocessing["mean"][0], population.preprocessing["scale"][0]
        parts = (np.concatenate([population.train_x, population.public_x]), population.test_x)
        return tuple(np.rint(part[:, 0] * scale + mean) for part in parts)

    train, test = numbers(0.5)
    assert sorted(train) == list(range(200)) and sorted(test) == list(range(200, 260))
    assert len(numbers(0.1)[1]) == 26  # of the 260 that are one or the other
    assert len(numbers(0.0)[1]) == 0


def test_a_public_sample_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    path = str(table(tmp_path, split=np.array([0] * 20 + [1] * 280)))
    with pytest.raises(DataError, match=r"public_fraction = 0\.3 of 300 records asks for 90 of the 20"):
        build_population(DataConfig(source=path, clients=2), 0)


def test_the_bandwidth_is_the_median_distance() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    assert median_bandwidth(x) == pytest.approx(np.median([5.0, 1.0, np.hypot(3, 3)]))
    with pytest.raises(DataError, match="is 0 on 4 public records; give a number"):
        median_bandwidth(np.ones((4, 2)))


def test_a_population_is_built_once_and_found_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, root = table(tmp_path), tmp_path / "kept"
    data = DataConfig(source=str(path), clients=5)
    built, kept = build_population(data, 0), load_population(data, 0, root)
    assert (kept.schema, kept.preprocessing) == (built.schema, built.preprocessing)
    for name in ARRAYS:
        assert np.array_equal(getattr(kept, name), getattr(built, name)), name
    monkeypatch.setattr("palimpsest.simulator.world.data.build.build_population", lambda *_: pytest.fail("built again"))
    assert load_population(data, 0, root).clients == 5
    place = population_directory(data, 0, root)
    assert population_directory(data, 1, root) != place
    assert population_directory(data.model_copy(update={"clients": 6}), 0, root) != place
    table(tmp_path, y=np.zeros(300, int))
    assert population_directory(data, 0, root) != place


def test_the_seed_draws_another_population() -> None:
    data = DataConfig(source="digits", clients=10)
    one, same, other = (build_population(data, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(getattr(one, name), getattr(same, name)) for name in ARRAYS)
    assert not np.array_equal(one.public_x, other.public_x)


def test_default_population_has_the_sizes_that_are_advertised() -> None:
    population: Population = build_population(DataConfig(), 0)
    assert [len(part) for part in (population.train_x, population.public_x, population.test_x)] == [2500, 1500, 1000]
    assert population.clients == 100 and population.sizes.min() >= 1
