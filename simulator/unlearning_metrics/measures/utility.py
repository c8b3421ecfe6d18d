"""What models are worth on test records."""

from palimpsest.simulator.unlearning_metrics.measures.measure import Measure, Observed
from palimpsest.simulator.world.records import Array


def _utility(observed: Observed) -> Array | None:
    return None if observed.test is None else observed.test.utility


MEASURE = Measure(_utility, "utility", "median")
