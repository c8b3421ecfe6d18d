"""What holds of every measure of reconstructions, whatever it measures."""

import numpy as np
import pandas as pd
import pytest

from palimpsest.simulator.attack_metrics.measures import CARDS, measures
from palimpsest.simulator.attack_metrics.measures.measure import Background, Measure, Pairs
from palimpsest.simulator.testing import check_measure
from palimpsest.simulator.world.specs import Schema

IMAGES = Schema.model_validate(
    {"name": "images", "task": "classification", "shape": (1, 8, 8), "outputs": 3, "class_names": ("a", "b", "c")}
)
TABLE = Schema.model_validate({"name": "table", "task": "regression", "shape": (5,), "outputs": 1})
COUNT = 12


def pairs(schema: Schema, exact: bool) -> Pairs:
    """Records and answers: the records themselves, or something else."""
    rng = np.random.default_rng(0)
    x, y = rng.random((COUNT, schema.width)), rng.integers(0, 3, COUNT).astype(float)
    found_x, found_y = (x, y) if exact else (rng.random(x.shape), y + 1.0)
    return Pairs(np.arange(COUNT) // 2, np.arange(COUNT) % 2, x, y, found_x, found_y)


def background(schema: Schema) -> Background:
    rng = np.random.default_rng(1)
    mean, candidates = np.full(schema.width, 0.5), rng.random((30, schema.width))
    class_means = rng.random((schema.outputs, schema.width)) if schema.task == "classification" else None
    return Background(mean, schema, candidates, np.random.default_rng(2), class_means)


def values(name: str, schema: Schema, of: Pairs) -> np.ndarray:
    return np.asarray(measures()[name].values(of, background(schema)), dtype=float)


@pytest.fixture(params=[IMAGES, TABLE], ids=["images", "table"])
def schema(request: pytest.FixtureRequest) -> Schema:
    found: Schema = request.param
    return found


@pytest.mark.parametrize("name", CARDS)
def test_it_is_a_finite_number_a_record_that_takes_no_notice_of_the_others(name: str, schema: Schema) -> None:
    if not measures()[name].applies(background(schema)):
        pytest.skip("it means nothing for these data")
    there = pairs(schema, exact=False)
    order = np.random.default_rng(3).permutation(COUNT)
    moved = Pairs(*(getattr(there, field)[order] for field in ("case", "target", "x", "y", "found_x", "found_y")))
    straight = values(name, schema, there)
    assert straight.shape == (COUNT,) and np.isfinite(straight).all()
    np.testing.assert_allclose(values(name, schema, moved), straight[order], rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "best"),
    {
        "cosine": 1.0,
        "cosine_centred": 1.0,
        "mse": 0.0,
        "ssim": 1.0,
        "target_error": 0.0,
        "label_correct": 1.0,
        "rank": 1.0,
        "cosine_in_class": 1.0,
    }.items(),
)
def test_the_record_itself_has_the_best_value_and_another_one_has_not(name: str, best: float, schema: Schema) -> None:
    if not measures()[name].applies(background(schema)):
        pytest.skip("it means nothing for these data")
    np.testing.assert_allclose(values(name, schema, pairs(schema, exact=True)), best, atol=1e-12)
    assert (np.abs(values(name, schema, pairs(schema, exact=False)) - best) > 1e-3).mean() > 0.5


def test_the_class_alone_tells_nothing_of_the_record_within_it() -> None:
    """Records scattered about class means: those means have a high centred cosine, and none within the class."""
    rng = np.random.default_rng(4)
    y = rng.integers(0, 3, 300)
    means = rng.normal(size=(3, IMAGES.width))
    x = means[y] + 0.5 * rng.normal(size=(300, IMAGES.width))
    there = Background(means.mean(axis=0), IMAGES, x, rng, means)

    def measured(name: str, found: np.ndarray) -> np.ndarray:
        of = Pairs(np.arange(300), np.zeros(300), x, y.astype(float), found, y.astype(float))
        return np.asarray(measures()[name].values(of, there))

    assert np.median(measured("cosine_centred", means[y])) > 0.8
    assert np.array_equal(measured("cosine_in_class", means[y]), np.zeros(300))
    others = np.array([x[rng.choice(np.flatnonzero(y == label))] for label in y])
    assert np.median(measured("cosine_centred", others)) > 0.6
    assert abs(np.median(measured("cosine_in_class", others))) < 0.05
    half = 0.5 * (means[y] + x)  # half way to the record
    np.testing.assert_allclose(measured("cosine_in_class", half), 1.0)


@pytest.mark.parametrize("name", [name for name, measure in measures().items() if measure.figures is not None])
def test_figures_of_its_own_are_read_from_its_column_alone(name: str) -> None:
    figures = measures()[name].figures
    assert figures is not None
    assert figures(pd.DataFrame({name: [1, 1, 1]}))


@pytest.mark.parametrize("name", CARDS)
def test_it_keeps_the_contract(name: str) -> None:
    check_measure(name)


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        (Measure(lambda pairs, background: np.zeros((2, 3))), r"an array of shape \(2, 3\) for 6 records"),
        (Measure(lambda pairs, background: np.full(6, np.nan)), "a value is not finite, on images"),
        (Measure(lambda pairs, background: np.random.default_rng().random(6)), "draw from background.rng"),
        (Measure(lambda pairs, background: np.multiply(pairs.x, 2.0, out=pairs.x).sum(1)), "same records|it changes"),
        (Measure(lambda pairs, background: np.zeros(6), figures=lambda frame: {"a": {1}}), "are no JSON"),
        (Measure(lambda pairs, background: np.zeros(6), lambda background: False), "neither to images nor to tables"),
    ],
)
def test_one_that_breaks_it_is_told_why(measure: Measure, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palimpsest.simulator.testing.measures.measures", lambda: {"mine": measure})
    with pytest.raises(AssertionError, match=said):
        check_measure("mine")
