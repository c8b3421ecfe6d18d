"""Cosine similarity: raw, centred by the public mean, and by the public mean of the record's class."""

import numpy as np

from palimpsest.simulator.attack_metrics.measures.measure import Background, Measure, Pairs, centred, unit
from palimpsest.simulator.world.records import Array


def _raw(pairs: Pairs, background: Background) -> Array:
    """``[t]`` cosine of each record with the answer."""
    product: Array = (unit(pairs.x) * unit(pairs.found_x)).sum(axis=1)
    return product


def _centred(pairs: Pairs, background: Background) -> Array:
    """``[t]`` cosine of both less the public mean; 0 for the public mean itself."""
    product: Array = (centred(pairs.x, background.mean) * centred(pairs.found_x, background.mean)).sum(axis=1)
    return product


def _in_class(pairs: Pairs, background: Background) -> Array:
    """``[t]`` cosine of both less the public mean of the record's class: what is told of the record beyond its class.

    0 for that mean itself, whose centred cosine may be 0.7: an attack that knows the class and nothing else has it.
    """
    assert background.class_means is not None  # it does not apply then
    means = background.class_means[pairs.y.astype(np.int64)]
    product: Array = (centred(pairs.x, means) * centred(pairs.found_x, means)).sum(axis=1)
    return product


def _has_means(background: Background) -> bool:
    return background.class_means is not None


RAW = Measure(_raw)
CENTRED = Measure(_centred)
IN_CLASS = Measure(_in_class, _has_means)
