"""Cosine similarity, raw and centred by the public mean."""

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


RAW = Measure(_raw)
CENTRED = Measure(_centred)
