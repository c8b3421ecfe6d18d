"""Populations that are made where they are read: a client's records depend on its id and the seed, on nothing else."""

import resource
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from palimpsest.simulator.scenario.load import ScenarioError, load_scenario
from palimpsest.simulator.world.data.build import DataConfig, build_population, load_population, open_population
from palimpsest.simulator.world.data.synthetic import SyntheticPopulation


def _made(seed: int = 0, **settings: object) -> SyntheticPopulation:
    given = {"source": "synthetic:mnist-like", "clients": 200, "records_per_client": 20, **settings}
    population = build_population(DataConfig.model_validate(given), seed)
    assert isinstance(population, SyntheticPopulation)
    return population


def test_a_client_has_the_same_records_in_every_population_and_in_any_company() -> None:
    small, large = _made(), _made(clients=10**6)
    x, y, begins = small.gather([7, 150, 7])
    assert begins == {7: 0, 150: 20} and x.shape == (40, 784)
    for population, clients in ((small, [7]), (large, [999_999, 7, 3]), (large, list(range(10)))):
        other_x, other_y, at = population.gather(clients)
        own = slice(at[7], at[7] + 20)
        assert np.array_equal(other_x[own], x[:20]) and np.array_equal(other_y[own], y[:20])
    assert not np.array_equal(_made(seed=1).gather([7])[0], x[:20])
    assert not np.array_equal(x[:20], x[20:])


def test_rows_lead_to_the_records_of_their_client() -> None:
    population = _made()
    x, y, _ = population.gather([9])
    rows = np.concatenate([population.rows(3, (1,)), population.rows(9, (19, 0)), population.rows(9)])
    taken_x, taken_y = population.take(rows)
    assert np.array_equal(taken_x[1:], np.concatenate([x[[19, 0]], x]))
    assert np.array_equal(taken_y[1:], np.concatenate([y[[19, 0]], y]))
    assert np.array_equal(population.labels()[population.rows(9)], y)
    assert population.records == len(population.labels()) == 4000


def test_it_comes_back_from_disk_as_it_was_built(tmp_path: Path) -> None:
    data = DataConfig(source="synthetic:mnist-like", clients=50)
    built, again = build_population(data, 4), load_population(data, 4, tmp_path)
    [directory] = tmp_path.iterdir()
    for population in (again, open_population(data, directory)):
        for one, other in zip(built.gather([31])[:2], population.gather([31])[:2], strict=True):
            assert np.array_equal(one, other)
        assert np.array_equal(built.public_x, population.public_x) and built.schema == population.schema


def test_a_million_clients_weigh_what_a_thousand_do(tmp_path: Path) -> None:
    """On disk, where the seconds go, and in memory: public and test samples stop growing."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    population = load_population(DataConfig(source="synthetic:mnist-like", clients=10**6), 0, tmp_path)
    assert population.records == 5 * 10**7 and len(population.public_x) == len(population.test_x) == 10_000
    assert sum(file.stat().st_size for file in tmp_path.rglob("*")) < 80e6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400e3  # kB


def test_fractions_count_the_clients_records_too() -> None:
    population = _made(test_fraction=0.2, public_fraction=0.3)
    assert (len(population.test_x), len(population.public_x)) == (1600, 2400)  # of 8,000
    assert len(_made(test_fraction=0.0).test_x) == 0


def test_digits_look_like_mnists() -> None:
    """Trained on made-up digits, a linear classifier reads real ones: made by somebody who knows what digits are."""
    population = _made(partition={"scheme": "iid"})
    x, y, _ = population.gather(range(200))
    assert x.min() == 0.0 and x.max() == 1.0 and 0.6 < (x == 0.0).mean() < 0.9  # as with MNIST's 0.81
    assert np.bincount(y).min() > 300
    real = build_population(DataConfig(source="mnist5k", clients=10), 0)
    reader = LogisticRegression(C=0.1, tol=1e-2).fit(x, y)
    assert reader.score(real.test_x, real.test_y) > 0.8
    assert reader.score(population.test_x, population.test_y) > 0.8


def test_each_division_gives_clients_the_classes_it_says() -> None:
    spread = {
        scheme: np.mean([len(np.unique(population.gather([k])[1])) for k in range(200)])
        for scheme, population in {
            "iid": _made(partition={"scheme": "iid"}),
            "dirichlet": _made(partition={"scheme": "dirichlet", "alpha": 0.1}),
            "pathological": _made(partition={"scheme": "pathological", "classes_per_client": 2}),
        }.items()
    }
    assert spread["iid"] == pytest.approx(10 * (1 - 0.9**20), abs=0.25)
    assert spread["pathological"] == 2.0
    # A class that has share p is met with 1 - (1 - p)^20; p ~ Beta(a, 9a), a = 0.1.
    missed = np.prod([(0.9 + i) / (1.0 + i) for i in range(20)])
    assert spread["dirichlet"] == pytest.approx(10 * (1 - missed), abs=0.25)


@pytest.mark.parametrize(
    "changes, needed",
    [
        (["data.partition={scheme='natural'}", "data.clients=0"], "natural"),
        (["data.sites=[1]"], "leave sites"),
        (["data.partition.min_records=80"], "min_records"),
        (["data.source=digits", "data.records_per_client=3"], "synthetic:mnist-like"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: list[str], needed: str) -> None:
    with pytest.raises(ScenarioError, match=needed):
        load_scenario("mnist-deletions", ["data.source=synthetic:mnist-like", *changes])
