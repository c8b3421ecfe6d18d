"""What the last layer of a network saw of a deleted record: a gradient gives it away exactly."""

import numpy as np

from palimpsest.attacks.divergence import path_of
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.records import Array, Case

_EXPLAINED = 0.999
"""Share of the last layer's change that one record explains, from which on the change is taken for its gradient."""
_ROWS = 3
"""Scores from which on there is anything to tell: two of them move against each other whatever happens."""


def features_of(case: Case, model: Model) -> Array | None:
    """``[p]`` what the last layer saw of the only record, in its own unit; None where the change does not tell.

    The gradient of one record's loss by the last layer is r h^T by the weight and r by the bias, with r its slope by
    the scores: the bias's change says which multiple of h stands in each row of the weight's, whatever the step was. As
    there are as many rows as scores, they also say whether it is so: noise, rounding, other records and several local
    steps leave rows that are no such multiples.
    """
    if case.size > 1 or len(path_of(case)) > 1 or model.spec.outputs < _ROWS:
        return None
    weight, bias = (np.asarray(case.after[name], np.float64) - case.before[name] for name in model.last_layer)
    power = float((weight**2).sum())
    if not power or not bias.any():
        return None
    features: Array = bias @ weight / float(bias @ bias)
    left = float(((weight - np.outer(bias, features)) ** 2).sum())
    return features if left <= (1.0 - _EXPLAINED) * power else None
