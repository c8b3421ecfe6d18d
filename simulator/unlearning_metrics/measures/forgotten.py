"""How models do on the records that they were to forget."""

from palimpsest.simulator.unlearning_metrics.measures.measure import Measure, Observed
from palimpsest.simulator.world.records import Array


def _loss(observed: Observed) -> Array:
    mean: Array = observed.forgotten.losses.mean(axis=1)
    return mean


def _accuracy(observed: Observed) -> Array | None:
    return observed.forgotten.utility if observed.classifies else None


LOSS = Measure(_loss)
ACCURACY = Measure(_accuracy)
