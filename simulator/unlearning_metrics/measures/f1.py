"""F1 of classifiers on test records: accuracy says little where most records are of one class."""

import numpy as np

from palimpsest.simulator.unlearning_metrics.evaluation import Evaluated
from palimpsest.simulator.unlearning_metrics.measures.measure import Measure, Observed
from palimpsest.simulator.world.records import Array


def _of_classes(test: Evaluated) -> Array:
    """``[models, classes]`` F1 = 2 TP / (2 TP + FP + FN); NaN for a class that has no test record and is never said."""
    count = test.scores.shape[-1]
    labels = np.asarray(test.targets)
    cells = count * labels + test.answers
    confusion = np.stack([np.bincount(of_model, minlength=count * count) for of_model in cells])
    confusion = confusion.reshape(-1, count, count)
    right = np.diagonal(confusion, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        of_classes: Array = 2 * right / (confusion.sum(axis=1) + confusion.sum(axis=2))
    return of_classes


def _macro(observed: Observed) -> Array | None:
    if observed.test is None or not observed.classifies:
        return None
    mean: Array = np.nanmean(_of_classes(observed.test), axis=1)
    return mean


def _positive(observed: Observed) -> Array | None:
    """Of the second class, as a yes among no and yes; of two classes alone."""
    if observed.test is None or not observed.classifies or observed.test.scores.shape[-1] != 2:
        return None
    second: Array = _of_classes(observed.test)[:, 1]
    return second


MACRO = Measure(_macro, "utility", "median")
POSITIVE = Measure(_positive, "utility", "median")
