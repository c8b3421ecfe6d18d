"""How far a model's parameters are from a retraining's."""

from palimpsest.simulator.unlearning_metrics.evaluation import distance
from palimpsest.simulator.unlearning_metrics.measures.measure import Distance, Portrait


def _between(portrait: Portrait, other: Portrait) -> float:
    return distance(portrait.params, other.params)


MEASURE = Distance(_between)
