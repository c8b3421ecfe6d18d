"""What records of each class add to the last layer's gradient, as the public sample tells it."""

from dataclasses import dataclass, replace
from functools import cached_property

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
_SLOWEST = 0.02
"""Speed below which no model is taken to go, as a share of its greatest."""
_HALVINGS = 30


@dataclass(frozen=True)
class Contributions:
    """G seen through few directions: u = vec(B^T G E), a sum of one vec(B^T h~ r^T E) a deleted record, and errors.

    B spans the public class means of h~, the intercept and the directions of largest variance. E leaves out the mean
    over outputs where residuals add up to about zero.

    Attributes:
        observed: ``[v]`` u.
        stations: ``[t, m, v]`` what each public record would add at each of the layer's points.
        y: ``[m]`` classes.
        classes: Q.
        error: ``[v, v]`` covariance of what is in u besides.
        steps: that were taken from the first point to the last.
        weights: ``[t]`` the share of the steps at each point.
        length_deviation, class_deviation, strays, length_known: as of ``LastLayer``.
    """

    observed: Array
    stations: Array
    y: Array
    classes: int
    error: Array
    steps: int
    weights: Array
    length_deviation: float
    class_deviation: float
    strays: float
    length_known: bool

    @cached_property
    def records(self) -> Array:
        """``[m, v]`` what each public record would add over all steps, on average."""
        mean: Array = np.tensordot(self.weights, self.stations, 1)
        return mean

    @cached_property
    def means(self) -> Array:
        """``[Q, v]`` the class means of ``records``; zeros of a class without public records."""
        means: Array = self._sums @ self.records
        return means

    @cached_property
    def members(self) -> Array:
        """``[Q]`` public records of each class."""
        members: Array = np.bincount(self.y, minlength=self.classes)
        return members

    def timed(self, counts: Array) -> "Contributions":
        """With weights as they are if the leaver has so many records of each class.

        Its model runs first and slows down as it learns them: at a point it moves as fast as the expected gradient
        there reaches along the observed change.
        """
        if len(self.stations) == 1:
            return self
        speed = np.array([counts @ (self._sums @ station) @ self.observed for station in self.stations])
        speed = np.maximum(speed, _SLOWEST * max(float(speed.max()), np.finfo(np.float64).tiny))
        return replace(self, weights=_shares(speed / speed.max(), self.steps))

    @cached_property
    def _sums(self) -> Array:
        """``[Q, m]`` takes class means."""
        member = self.y == np.arange(self.classes)[:, None]
        sums: Array = member / np.maximum(member.sum(axis=1, keepdims=True), 1)
        return sums

    @cached_property
    def _anybody(self) -> Array:
        """``[v, v]`` second moment of what a record adds, whatever its class."""
        moment: Array = self.records.T @ self.records / len(self.records)
        return moment

    def covariance(self, counts: Array, strays: float) -> Array:
        """``[v, v]`` of u about its expectation, for so many deleted records of each class and so many others.

        The spread of the deleted records, of the public class means, the public operator, the length and the others.
        """
        members = np.maximum(self.members, 1)
        weights = (counts * (1.0 + counts / members) / members)[self.y]
        within = self.records - self.means[self.y]
        expected = counts @ self.means
        spread = (within * weights[:, None]).T @ within + self.error
        spread += self.length_deviation**2 * np.outer(expected, expected) + strays * self._anybody
        spread += self.class_deviation**2 * (self.means.T * counts**2) @ self.means
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
    pairs = [_seen(model, point, x, y, basis, contrast) for point in layer.points]
    stations = np.stack([_products(seen, residual) for seen, residual in pairs])
    error = np.zeros((stations.shape[2],) * 2)
    if layer.start is not None:
        there = _seen(model, layer.start, x, y, basis, contrast)[1]
        error += _of_operator(_products(pairs[-1][0], pairs[-1][1] - there), knowledge.facts.n)
    for direction, deviation in layer.aside:
        along = (basis.T @ direction @ contrast).ravel()
        error += deviation**2 * np.outer(along, along)
    return Contributions(
        observed=(basis.T @ layer.gradient @ contrast).ravel(),
        stations=stations,
        y=y,
        classes=outputs,
        error=error,
        steps=layer.steps,
        weights=np.full(count, 1.0 / count),
        length_deviation=layer.length_deviation,
        class_deviation=layer.class_deviation,
        strays=layer.strays,
        length_known=layer.length_known,
    )


def public_contributions(knowledge: PublicKnowledge) -> Contributions:
    """What is seen where nothing changed: nothing, whoever was deleted."""
    y, outputs = np.asarray(knowledge.y).astype(np.int64), knowledge.facts.model.outputs
    nothing = np.zeros((1, len(y), 1))
    return Contributions(np.zeros(1), nothing, y, outputs, np.eye(1), 1, np.ones(1), 0.0, 0.0, 0.0, True)


def _shares(speed: Array, steps: int) -> Array:
    """``[t]`` the share of the steps that begin at each of evenly spaced points, where the way is gone at such speeds.

    A step goes as far as its speed times a length, which is the one that ends the last step at the last point.
    """
    grid = np.linspace(0.0, 1.0, len(speed))
    low, high = 0.0, 1.0 / (steps * float(speed.min()))
    for _ in range(_HALVINGS):
        length = 0.5 * (low + high)
        places = [0.0]
        for _ in range(steps):
            places.append(min(1.0, places[-1] + length * float(np.interp(places[-1], grid, speed))))
        low, high = (low, length) if places[-1] >= 1.0 else (length, high)
    near = np.maximum(0.0, 1.0 - np.abs(np.array(places[:-1])[:, None] - grid) * (len(speed) - 1))
    shares: Array = near.mean(axis=0)
    return shares


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
    wanted, rows = min(features.shape[1], _DIRECTIONS) - outputs - 1, [means, intercept]
    if wanted > 0:
        spread = features - means[y]
        rows.append(np.linalg.eigh(spread.T @ spread)[1][:, ::-1].T[:wanted])
    _, values, right = np.linalg.svd(np.concatenate(rows), full_matrices=False)
    basis: Array = right[values > _FLOOR * values[0]].T
    return basis


def _contrast(model: Model) -> Array:
    """``[Q, e]`` orthonormal: what is looked at of residuals."""
    outputs = model.spec.outputs
    if not (model.squared or model.probabilities):
        return np.eye(outputs)
    right = np.linalg.svd(np.ones((1, outputs)))[2]
    contrast: Array = right[1:].T
    return contrast
