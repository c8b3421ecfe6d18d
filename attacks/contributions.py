"""What records of each class add to the last layer's gradient, as the public sample tells it."""

from dataclasses import dataclass

import numpy as np
import torch

from palimpsest.attacks.last_layer import LastLayer, head_of
from palimpsest.attacks.linear import precise_model
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Params

_DIRECTIONS = 12
"""Of h~ that are looked at, at least, where there are as many."""
_FLOOR = 1e-9


@dataclass(frozen=True)
class Contributions:
    """G seen through few directions: u = vec(B^T G E), a sum of one vec(B^T h~ r^T E) a deleted record, and errors.

    B spans the public class means of h~, the intercept and the directions of largest variance. E leaves out the mean
    over outputs where residuals add up to about zero.

    Attributes:
        observed: ``[v]`` u.
        records: ``[m, v]`` what each public record would add.
        means: ``[Q, v]`` their class means; zeros of a class without public records.
        y: ``[m]`` classes.
        error: ``[v, v]`` covariance of what is in u besides.
        length_deviation, length_known: as of ``LastLayer``.
    """

    observed: Array
    records: Array
    means: Array
    y: Array
    error: Array
    length_deviation: float
    length_known: bool

    @property
    def members(self) -> Array:
        """``[Q]`` public records of each class."""
        members: Array = np.bincount(self.y, minlength=len(self.means))
        return members

    def covariance(self, counts: Array) -> Array:
        """``[v, v]`` of u about its expectation, for so many deleted records of each class.

        Their own spread, that of the public class means, the public operator's and that of the length.
        """
        members = np.maximum(self.members, 1)
        weights = (counts * (1.0 + counts / members) / members)[self.y]
        within = self.records - self.means[self.y]
        expected = counts @ self.means
        spread = (within * weights[:, None]).T @ within + self.error
        spread += self.length_deviation**2 * np.outer(expected, expected)
        size = len(spread)
        share = size / (size + len(self.y))
        shrunk: Array = (1.0 - share) * spread + share * np.diag(np.diag(spread))
        shrunk += (_FLOOR * np.trace(spread) / size + np.finfo(np.float64).tiny) * np.eye(size)
        return shrunk


def contributions(layer: LastLayer, knowledge: PublicKnowledge) -> Contributions:
    """See one case's G as the public sample sees it."""
    model = precise_model(knowledge)
    x = torch.tensor(np.asarray(knowledge.x, np.float64))
    y = np.asarray(knowledge.y).astype(np.int64)
    outputs, count = model.spec.outputs, len(layer.points)
    basis, contrast = _basis(_features(model, layer.points[count // 2], x), y, outputs), _contrast(model)
    records: Array = np.zeros((len(y), basis.shape[1] * contrast.shape[1]))
    for point in layer.points:
        seen, residual = _seen(model, point, x, y, basis, contrast)
        records += _products(seen, residual) / count
    error = np.zeros((records.shape[1],) * 2)
    if layer.start is not None:
        there = _seen(model, layer.start, x, y, basis, contrast)[1]
        error += _of_operator(_products(seen, residual - there), knowledge.facts.n)
    for direction, deviation in layer.aside:
        along = (basis.T @ direction @ contrast).ravel()
        error += deviation**2 * np.outer(along, along)
    means = np.stack(
        [records[y == label].mean(axis=0) if (y == label).any() else 0.0 * records[0] for label in range(outputs)]
    )
    observed = (basis.T @ layer.gradient @ contrast).ravel()
    return Contributions(observed, records, means, y, error, layer.length_deviation, layer.length_known)


def public_contributions(knowledge: PublicKnowledge) -> Contributions:
    """What is seen where nothing changed: nothing, whoever was deleted."""
    y, outputs = np.asarray(knowledge.y).astype(np.int64), knowledge.facts.model.outputs
    return Contributions(np.zeros(1), np.zeros((len(y), 1)), np.zeros((outputs, 1)), y, np.eye(1), 0.0, True)


def _features(model: Model, point: Params, x: torch.Tensor) -> Array:
    """``[m, p + 1]`` h~."""
    with torch.no_grad():
        seen = model.before_last(model.tensors(point), x).numpy()
    return np.concatenate([seen, np.ones((len(seen), 1))], axis=1)


def _seen(model: Model, point: Params, x: torch.Tensor, y: Array, basis: Array, contrast: Array) -> tuple[Array, Array]:
    """``[m, b]`` h~ B and ``[m, e]`` r E of the public records at one model."""
    features = _features(model, point, x)
    scores = torch.tensor(features @ head_of(point, model))
    return features @ basis, model.residual(scores, torch.tensor(y)).numpy() @ contrast


def _products(seen: Array, residual: Array) -> Array:
    products: Array = (seen[:, :, None] * residual[:, None, :]).reshape(len(seen), -1)
    return products


def _of_operator(moved: Array, n: int) -> Array:
    """``[v, v]`` covariance of n/m times a sum over m public records that stands for a sum over n private ones."""
    spread = moved - moved.mean(axis=0)
    covariance: Array = n**2 * (1.0 / len(moved) + 1.0 / n) * (spread.T @ spread) / len(moved)
    return covariance


def _basis(features: Array, y: Array, outputs: int) -> Array:
    """``[p + 1, b]`` orthonormal."""
    sums = np.eye(outputs)[y].T @ features
    means = sums / np.maximum(sums[:, -1:], 1.0)
    intercept = np.eye(features.shape[1])[-1:]
    spread = features - means[y]
    principal = np.linalg.eigh(spread.T @ spread)[1][:, ::-1].T
    more = principal[: max(0, min(features.shape[1], _DIRECTIONS) - outputs - 1)]
    _, values, right = np.linalg.svd(np.concatenate([means, intercept, more]), full_matrices=False)
    basis: Array = right[values > _FLOOR * values[0]].T
    return basis


def _contrast(model: Model) -> Array:
    """``[Q, e]`` orthonormal: what is looked at of residuals."""
    outputs = model.spec.outputs
    if model.spec.kind == "svm":
        return np.eye(outputs)
    right = np.linalg.svd(np.ones((1, outputs)))[2]
    contrast: Array = right[1:].T
    return contrast
