"""What every measure of reconstructions must be: one number for each record."""

import json

import numpy as np
import pandas as pd

from palimpsest.simulator.attack_metrics.measures import measures
from palimpsest.simulator.attack_metrics.measures.measure import Background, Measure, Pairs
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.specs import Schema

_SCHEMAS = (
    Schema(name="images", task="classification", shape=(1, 8, 8), outputs=4),
    Schema(name="table", task="classification", shape=(9,), outputs=4),
    Schema(name="amounts", task="regression", shape=(9,), outputs=1),
)


def check_measure(name: str) -> None:
    """Check everything that is asked of a measure of reconstructions.

    Args:
        name: under which it is registered, built in or announced by an entry point.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    try:
        known = measures()
    except RunFailure as error:
        raise AssertionError(str(error)) from error
    assert name in known, f"there is no measure {name!r} here; there are {', '.join(known)}"
    applied = [schema for schema in _SCHEMAS if known[name].applies(_background(schema))]
    assert applied, f"{name}: it applies neither to images nor to tables"
    for schema in applied:
        check_values(name, known[name], schema)
        check_figures(name, known[name], schema)


def check_values(name: str, measure: Measure, schema: Schema) -> None:
    """A finite number for each record, the same each time, of arrays that it leaves as they are."""
    pairs, before = _pairs(schema), _pairs(schema)
    one, again = (np.asarray(measure.values(pairs, _background(schema))) for _ in range(2))
    shape = pairs.case.shape
    assert one.shape == shape, f"{name}: it returns an array of shape {one.shape} for {shape[0]} records"
    assert np.isfinite(one.astype(float)).all(), f"{name}: a value is not finite, on {schema.name}"
    assert np.array_equal(one, again), f"{name}: the same records get different values; draw from background.rng"
    kept = all(np.array_equal(value, getattr(before, key)) for key, value in vars(pairs).items())
    assert kept, f"{name}: it changes the records that it is given"


def check_figures(name: str, measure: Measure, schema: Schema) -> None:
    """Figures of its own can be written to ``results.json``."""
    if measure.figures is None:
        return
    frame = pd.DataFrame({"case": _pairs(schema).case, name: measure.values(_pairs(schema), _background(schema))})
    try:
        json.dumps(dict(measure.figures(frame)), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name}: its figures are no JSON: {error}") from error


def _pairs(schema: Schema) -> Pairs:
    """Six records of three deletions, the first of them found exactly."""
    rng = np.random.default_rng(0)
    x, y = rng.random((6, schema.width)), rng.integers(0, 4, 6).astype(np.float64)
    found = np.clip(x + 0.2 * rng.standard_normal(x.shape), 0.0, 1.0)
    found[0] = x[0]
    return Pairs(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1]), x, y, found, y[::-1].copy())


def _background(schema: Schema) -> Background:
    rng = np.random.default_rng(1)
    mean, candidates = rng.random(schema.width), rng.random((20, schema.width))
    class_means = rng.random((schema.outputs, schema.width)) if schema.task == "classification" else None
    return Background(mean, schema, candidates, np.random.default_rng(2), class_means)
