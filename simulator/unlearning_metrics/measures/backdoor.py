"""Whether a backdoor that the forgotten records planted still works."""

from palimpsest.simulator.unlearning_metrics.measures.measure import Measure, Observed
from palimpsest.simulator.world.records import Array


def _success(observed: Observed) -> Array | None:
    return observed.backdoor


MEASURE = Measure(_success)
