"""How many records of each class a deletion took, learned from deletions of public records."""

from typing import TypeAlias

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from palimpsest.attacks.adam import Adam, one_cycle
from palimpsest.attacks.class_moments import class_basis, counting_maps
from palimpsest.attacks.linear import Released, class_targets, precise_model, public_blocks
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator

_ROWS = 3000
"""Public records from which deletions are made up, at most."""
_COMPONENTS = 40
_WIDTH = 600
"""Components times classes, at most (or one component)."""
_DELETIONS = 4000
_CASES = 40
"""Cases whose models deletions are made up at, at most."""
_CORRELATED = 20
"""Classes beyond which correlations between columns of G are left out: there are too many."""
_HIDDEN = 64
_EPOCHS = 15
_BATCH = 256
_RATE = 8e-3
_DECAY = 1e-2
_FAR = 5.0
_TINY = 1e-300

_Rows: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class LabelCounts:
    """Learns from made-up deletions, and answers with the labels of most expected agreement.

    The adversary knows what G of given records would look like: x~ r(point)^T summed, and beside it what the public
    operator adds, n sqrt((1/m + 1/n) / m) times a sum over public records of x~ (r(point) - r(start))^T with normal
    weights. It makes up thousands of deletions of public records in this way at the models of the cases, and a small
    network learns the number of records of each class from these views of G: least squares by class means
    (``counting_maps``), G through the span of class means, its intercept row, the lengths of its columns with the sign
    of the intercept, and correlations between columns. No view is best on every data set and every model; which one
    counts is learned from the public sample itself. Where the length of G tells nothing, all is divided by it.
    """

    def __init__(self, knowledge: PublicKnowledge) -> None:
        """Take the span of class means and the principal components of the public sample."""
        self._knowledge = knowledge
        self._model = precise_model(knowledge)
        outputs = knowledge.facts.model.outputs
        phi = torch.cat([rows for rows, _ in public_blocks(knowledge, outputs)]).numpy()
        self._basis = class_basis(knowledge)
        self._mean = phi[:, :-1].mean(axis=0)
        width = max(1, min(_COMPONENTS, _WIDTH // outputs, phi.shape[1] - 1))
        spread, axes = _components(phi[:, :-1] - self._mean, width)
        self._deviation = np.sqrt(spread)
        self._axes = axes / self._deviation
        chosen = np.arange(len(phi))
        if len(phi) > _ROWS:
            chosen = np.sort(generator(0, "labels/rows").choice(len(phi), _ROWS, replace=False))
        self._phi, self._y = phi[chosen], class_targets(knowledge)[torch.tensor(chosen)]
        self._lifted = self._seen(self._phi[:, :, None])[:, :, 0]

    def infer(self, released: Released, size: int) -> list[Array]:
        """``[size]`` ascending labels of each case, all of them of ``size`` records."""
        count = len(released.gradients)
        order = np.lexsort((released.gradients[:, -1, 0], np.abs(released.gradients).sum(axis=(1, 2))))
        ordered = released.some(order)
        maps = list(counting_maps(self._knowledge, self._basis, ordered, size))
        seen = self._seen(ordered.gradients)
        views = [self._views(seen[i : i + 1], maps[i], bool(ordered.scaled[i])) for i in range(count)]
        labels = [np.empty(0)] * count
        for scaled in (True, False):
            alike = np.flatnonzero(ordered.scaled == scaled)
            if len(alike):
                model = self._learned(ordered.some(alike), [maps[i] for i in alike], size)
                counts = model(np.concatenate([views[i] for i in alike]))
                for i, at_least in zip(alike, counts, strict=True):
                    labels[order[i]] = self._most_agreed(at_least, size)
        return labels

    def _learned(self, released: Released, maps: list[Array], size: int) -> "_CountNetwork":
        rng = generator(0, "labels", size)
        cases = np.unique(np.linspace(0, len(maps) - 1, min(len(maps), _CASES)).round().astype(np.int64))
        each = -(-_DELETIONS // len(cases))
        views, counts = [], []
        for case in cases:
            rows = rng.integers(len(self._y), size=(each, size))
            seen = self._made_up(released, int(case), rows, rng)
            views.append(self._views(seen, maps[case], bool(released.scaled[case])))
            counts.append(np.eye(released.point.shape[2])[self._y.numpy()[rows]].sum(axis=1))
        return _CountNetwork(np.concatenate(views), np.concatenate(counts).astype(np.int64), rng)

    def _made_up(self, released: Released, case: int, rows: _Rows, rng: np.random.Generator) -> Array:
        """``[s, a, Q]`` what would be seen of G had the public ``rows [s, k]`` been deleted."""
        point, start = (
            self._model.residual(torch.tensor(self._phi @ matrix[case]), self._y).numpy()
            for matrix in (released.point, released.start)
        )
        seen = np.zeros((len(rows), self._lifted.shape[1], point.shape[1]))
        for column in rows.T:
            seen += self._lifted[column][:, :, None] * point[column][:, None, :]
        moved = point - start
        if not moved.any():
            return seen
        n, m = self._knowledge.facts.n, len(self._knowledge.x)
        drift = (self._lifted[:, :, None] * moved[:, None, :]).reshape(len(moved), -1)
        drift -= drift.mean(axis=0)
        weights = rng.standard_normal((len(rows), len(moved))) * (n * np.sqrt((1.0 / m + 1.0 / n) / len(moved)))
        noisy: Array = seen + (weights @ drift).reshape(seen.shape)
        return noisy

    def _seen(self, gradients: Array) -> Array:
        """``[c, p + 1, Q] -> [c, a, Q]``: through B, the principal components in their deviations, the intercept."""
        centred = gradients[:, :-1] - self._mean[:, None] * gradients[:, -1:]
        parts = [np.einsum("pb,cpq->cbq", self._basis, gradients), np.einsum("pb,cpq->cbq", self._axes, centred)]
        return np.concatenate([*parts, gradients[:, -1:]], axis=1)

    def _views(self, seen: Array, counting: Array, scaled: bool) -> Array:
        """``[c, a, Q] -> [c, v]`` what the network looks at."""
        spanned, whole, last = np.split(seen, [self._basis.shape[1], seen.shape[1] - 1], axis=1)
        plain = whole * self._deviation[:, None]
        if not scaled:
            length = np.linalg.norm(plain, axis=(1, 2)) / self._deviation[0] + np.abs(last).sum(axis=(1, 2))
            spanned, whole, plain, last = (
                part / (length[:, None, None] + _TINY) for part in (spanned, whole, plain, last)
            )
        flat, bias = spanned.reshape(len(seen), -1), last[:, 0]
        lengths = np.linalg.norm(plain, axis=1) / np.linalg.norm(self._deviation)
        norms = np.linalg.norm(whole, axis=1)
        signs = np.sign(bias)
        views = [flat @ counting.T, flat, bias, lengths, lengths * signs, norms, signs * np.log(lengths + 1e-9)]
        if seen.shape[2] <= _CORRELATED:
            unit = whole / (norms[:, None, :] + _TINY)
            upper = np.triu_indices(seen.shape[2], 1)
            views.append(np.einsum("caq,car->cqr", unit, unit)[:, *upper])
        return np.concatenate(views, axis=1)

    def _most_agreed(self, at_least: Array, size: int) -> Array:
        """The multiset of most expected agreement, from ``[Q, most]`` the chance that a class has 1, 2, ... records."""
        possible = np.full(at_least.shape, -1.0)
        public = np.unique(self._y.numpy())
        possible[public] = at_least[public]
        chosen = np.argsort(-possible.ravel(), kind="stable")[:size] // at_least.shape[1]
        labels: Array = np.sort(chosen).astype(np.float64)
        return labels


class _CountNetwork:
    """One hidden layer beside a linear one, from views to the distribution of each class's count."""

    def __init__(self, views: Array, counts: _Rows, rng: np.random.Generator) -> None:
        self._mean, self._deviation = views.mean(axis=0), views.std(axis=0) + 1e-9
        self._shape = (counts.shape[1], int(counts.max()) + 1)
        width, answers = views.shape[1], int(np.prod(self._shape))
        drawn = [
            rng.standard_normal((width, _HIDDEN)) / np.sqrt(width),
            np.zeros(_HIDDEN),
            rng.standard_normal((_HIDDEN, answers)) / np.sqrt(_HIDDEN),
            np.zeros((width, answers)),
            np.zeros(answers),
        ]
        self._weights = [torch.tensor(weights, dtype=torch.float32).requires_grad_() for weights in drawn]
        self._fit(self._standardised(views), torch.tensor(counts), rng)

    def __call__(self, views: Array) -> Array:
        """``[c, Q, most]`` the chance that a class has at least 1, 2, ... records."""
        with torch.no_grad():
            chances = torch.softmax(self._logits(self._standardised(views)), -1).double().numpy()
        at_least: Array = chances[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]
        return at_least

    def _fit(self, views: Tensor, counts: Tensor, rng: np.random.Generator) -> None:
        batches = max(1, len(views) // _BATCH)
        adam, plan = Adam(self._weights, decay=_DECAY), one_cycle(_RATE, _EPOCHS * batches)
        for _ in range(_EPOCHS):
            order = torch.tensor(rng.permutation(len(views)))
            for rows in torch.tensor_split(order, batches):
                logits = self._logits(views[rows]).flatten(0, 1)
                adam.step(torch.nn.functional.cross_entropy(logits, counts[rows].flatten()), *next(plan))

    def _logits(self, views: Tensor) -> Tensor:
        inner, offset, outer, direct, bias = self._weights
        hidden = torch.relu(views @ inner + offset)
        logits: Tensor = hidden @ outer + views @ direct + bias
        return logits.view(len(views), *self._shape)

    def _standardised(self, views: Array) -> Tensor:
        return torch.tensor(np.clip((views - self._mean) / self._deviation, -_FAR, _FAR), dtype=torch.float32)


def _components(centred: Array, width: int) -> tuple[Array, Array]:
    """``([q], [p, q])`` the largest variances of ``centred [m, p]``, and their axes; those of no variance left out."""
    if centred.shape[1] <= len(centred):
        size = centred.shape[1]
        values, axes = eigh(centred.T @ centred, subset_by_index=(max(0, size - width), size - 1))
    else:
        size = len(centred)
        values, sides = eigh(centred @ centred.T, subset_by_index=(max(0, size - width), size - 1))
        axes = centred.T @ sides / np.sqrt(np.maximum(values, _TINY))
    kept = values > 1e-9 * max(float(values[-1]), _TINY)
    kept[-1] = True
    return np.maximum(values[kept], _TINY)[::-1] / len(centred), axes[:, kept][:, ::-1]
