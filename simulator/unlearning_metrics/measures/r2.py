"""R2 of classes that are fitted by least squares: how much of the variance of one-hot targets the scores explain."""

import numpy as np

from palimpsest.simulator.unlearning_metrics.measures.measure import Measure, Observed
from palimpsest.simulator.world.records import Array


def _r2(observed: Observed) -> Array | None:
    """1 - sum (e_y - s)^2 / sum (e_y - mean)^2 over test records and classes; NaN where all are of one class.

    Of regressions it is the metric itself; scores of other losses are in no unit of the target.
    """
    if observed.test is None or not observed.classifies or not observed.model.squared:
        return None
    test = observed.test
    one_hot = np.eye(test.scores.shape[-1])[np.asarray(test.targets)]
    spread = float(((one_hot - one_hot.mean(axis=0)) ** 2).sum())
    if spread == 0.0:
        return np.full(len(test.scores), np.nan)
    explained: Array = 1.0 - ((one_hot - test.scores) ** 2).sum(axis=(1, 2)) / spread
    return explained


MEASURE = Measure(_r2, "utility", "median")
