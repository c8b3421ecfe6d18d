"""Mean squared error."""

from palimpsest.simulator.attack_metrics.measures.measure import Background, Measure, Pairs
from palimpsest.simulator.world.records import Array


def _error(pairs: Pairs, background: Background) -> Array:
    """``[t]`` mean over inputs, in their units squared."""
    error: Array = ((pairs.x - pairs.found_x) ** 2).mean(axis=1)
    return error


MEASURE = Measure(_error)
