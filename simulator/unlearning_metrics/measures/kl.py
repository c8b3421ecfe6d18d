"""How far a model's predictions of test records are from a retraining's, where they are probabilities."""

from palimpsest.simulator.unlearning_metrics.evaluation import symmetric_kl
from palimpsest.simulator.unlearning_metrics.measures.measure import Distance, Portrait


def _between(portrait: Portrait, other: Portrait) -> float | None:
    if portrait.scores is None or other.scores is None:
        return None
    return symmetric_kl(portrait.scores, other.scores)


MEASURE = Distance(_between)
