"""What a linear classifier says of many records, told from a model nearby wherever that settles it."""

import numpy as np

from palimpsest.simulator.world.records import Array, Params

_TOGETHER = 512
"""Records whose scores are computed at once, always as many: sums of a product may change order with its shape."""


class Margins:
    """Answers of linear classifiers that are close to one of them, the reference.

    Scores of a record x~ = [x; 1] differ between two models by at most ||D_a - D_b|| ||x~|| for classes a and b, where
    D are the differences of their weights and biases. Where the reference's best class leads by more than that, and by
    more than rounding may cost, every model that is so near gives the same answer (Cauchy and Schwarz). The others'
    scores are computed in float64. So an answer does not depend on the reference, only the time does: one deletion
    among thousands moves next to nothing, and one record in a hundred is left to compute.

    Args:
        features: ``[n, p]`` records as the weights see them.
        reference: ``weight`` ``[c, p]`` and ``bias`` ``[c]``.
    """

    def __init__(self, features: Array, reference: Params) -> None:
        self._features = features
        self._reference = _stacked(reference)
        scores = np.concatenate([_scores(some, self._reference) for some in _chunks(features)])
        self._answers = scores.argmax(axis=1)
        second, first = np.partition(scores, -2, axis=1)[:, -2:].T
        lengths = np.sqrt(np.einsum("np,np->n", features, features, dtype=np.float64) + 1.0)
        lead = np.nan_to_num((first - second) / lengths, nan=-np.inf)  # nothing is known of a model that has diverged
        self._order = np.argsort(lead)
        self._lead = lead[self._order]

    def answers(self, model: Params) -> Array:
        """``[n]`` the class that a model of the reference's shape puts first."""
        stacked = _stacked(model)
        unsure = np.sort(self._order[: np.searchsorted(self._lead, self._reach(stacked), side="right")])
        answers: Array = self._answers.copy()
        for places in _chunks(unsure):
            answers[places] = _scores(self._features[places], stacked).argmax(axis=1)
        return answers

    def _reach(self, stacked: Array) -> float:
        """By how much, in lengths of a record, two classes of the model may have moved against each other."""
        moved, sizes = (np.linalg.norm(rows, axis=1) for rows in (stacked - self._reference, stacked))
        rounding = 2 * stacked.shape[1] * np.finfo(np.float64).eps
        own = np.linalg.norm(self._reference, axis=1).max()
        return float(np.sort(moved)[-2:].sum() + rounding * (sizes.max() + own))


def _stacked(model: Params) -> Array:
    """``[c, p + 1]`` weights and bias in float64."""
    weight, bias = (np.asarray(model[name], dtype=np.float64) for name in ("weight", "bias"))
    return np.concatenate([weight, bias[:, None]], axis=1)


def _scores(features: Array, stacked: Array) -> Array:
    """``[n, c]`` scores of at most ``_TOGETHER`` records; who is with a record changes no bit of its scores."""
    padded = np.zeros((_TOGETHER, features.shape[1]))
    padded[: len(features)] = features
    scores: Array = padded @ stacked[:, :-1].T + stacked[:, -1]
    return scores[: len(features)]


def _chunks(rows: Array) -> list[Array]:
    return [rows[begin : begin + _TOGETHER] for begin in range(0, len(rows), _TOGETHER)]
