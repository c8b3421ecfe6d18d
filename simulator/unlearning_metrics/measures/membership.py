"""Membership of the forgotten records by their loss: what an arm's models still know of them."""

from functools import partial

import numpy as np

from palimpsest.simulator.unlearning_metrics.measures.measure import Measure, Observed
from palimpsest.simulator.unlearning_metrics.membership import true_positives
from palimpsest.simulator.world.records import Array


def _auc(observed: Observed) -> Array | None:
    if observed.ranks is None:
        return None
    area: Array = observed.ranks.mean(axis=1)
    return area


def _at(rate: str, observed: Observed) -> Array | None:
    """True positive rate at one of ``membership.RATES``; absent where test records are too few to tell it from 0."""
    if observed.ranks is None:
        return None
    rates = [true_positives([ranks], observed.held_out) for ranks in observed.ranks]
    return np.array([of_model[rate] for of_model in rates]) if rate in rates[0] else None


AUC = Measure(_auc)
AT_1_PERCENT = Measure(partial(_at, "tpr_at_1_percent"), pool="records")
AT_01_PERCENT = Measure(partial(_at, "tpr_at_01_percent"), pool="records")
