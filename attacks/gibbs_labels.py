"""Labels of several deleted records by Gibbs sampling: public records stand in for them, one after the other."""

import numpy as np

from palimpsest.attacks.deletion_equations import LEAST, noise
from palimpsest.attacks.linear import Released, precise_model, public_blocks, residuals
from palimpsest.attacks.prior import PrincipalComponents
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_HOT = 20.0
"""Temperature of the first sweep."""
_COOLING = 0.6
"""Share of the sweeps after which the temperature is 1: from there on, draws are from the posterior."""


class GibbsLabels:
    """Draws, for one deleted record after the other, the public record whose label and residual explain G best.

    A record is known here by its label and its residual, both those of one public record, as their joint prior has it
    (softmax leaves most residuals near 0, and confuses some classes more than others). The record itself is integrated
    out: given the label it is Gaussian around the class mean, of covariance v S, so that G is Gaussian around the sum
    of class means times residuals, of covariance S (x) (U + v R^T R).
    """

    def __init__(self, knowledge: PublicKnowledge, space: PrincipalComponents) -> None:
        """Take the class means of the public sample, in standard deviations of the components."""
        self._knowledge, self._space = knowledge, space
        self._y = np.asarray(knowledge.y).astype(np.int64)
        whitened = space.z / np.sqrt(space.spread)
        self._means: Array = np.zeros((knowledge.facts.model.outputs, whitened.shape[1]))
        for label in np.unique(self._y):
            self._means[label] = whitened[self._y == label].mean(axis=0)
        self._share = float(((whitened - self._means[self._y]) ** 2).mean())

    def infer(self, released: Released, size: int, sweeps: int, rng: np.random.Generator) -> Array:
        """``[k]`` ascending labels of the only case in ``released``: those of least energy in so many sweeps (> 0)."""
        seen, residual = self._whitened(released)
        chosen = rng.choice(len(residual), size)
        best, lowest = chosen.copy(), np.inf
        for sweep in range(sweeps):
            heat = _HOT ** max(0.0, 1.0 - sweep / (_COOLING * sweeps))
            for i in rng.permutation(size):
                energy = self._energies(seen, residual, np.delete(chosen, i))
                likely = np.exp((energy.min() - energy) / heat)
                chosen[i] = rng.choice(len(residual), p=likely / likely.sum())
                if energy[chosen[i]] < lowest:
                    best, lowest = chosen.copy(), float(energy[chosen[i]])
        labels: Array = np.sort(self._y[best]).astype(np.float64)
        return labels

    def _whitened(self, released: Released) -> tuple[Array, Array]:
        """G in standard deviations of the components and of U ``[q + 1, Q]``, and the public residuals ``[m, Q]``."""
        point, gradient = released.point[0], released.gradients[0]
        values, vectors = np.linalg.eigh(noise(self._knowledge, released) + LEAST**2 * np.eye(point.shape[1]))
        right = vectors / np.sqrt(values)
        model, space = precise_model(self._knowledge), self._space
        residual = [
            residuals(model, (phi @ point).unsqueeze(1), y).squeeze(1).numpy()
            for phi, y in public_blocks(self._knowledge, point.shape[1])
        ]
        top = space.basis.T @ (gradient[:-1] - np.outer(space.mean, gradient[-1])) / np.sqrt(space.spread)[:, None]
        return np.vstack([top, gradient[-1:]]) @ right, np.concatenate(residual) @ right

    def _energies(self, seen: Array, residual: Array, others: Array) -> Array:
        """``[m]`` minus the log likelihood of G with each public record beside these ``others [k - 1]``.

        With N the covariance of a row under the others, M the rest of G and mu, r a candidate's class mean and
        residual, determinant and inverse of N + v r r^T are updates of rank one; nothing larger than Q x Q is solved.
        """
        rows, means = residual[others], self._means[self._y[others]]
        rest, last = seen[:-1] - means.T @ rows, seen[-1] - rows.sum(axis=0)
        inverse = np.linalg.inv(np.eye(seen.shape[1]) + self._share * rows.T @ rows)
        turned = residual @ inverse
        own = (turned * residual).sum(axis=1)
        along = ((self._means @ rest)[self._y] * turned).sum(axis=1)
        length = (self._means**2).sum(axis=1)[self._y]
        straight = length * own - 2.0 * along
        across = ((turned @ (rest.T @ rest)) * turned).sum(axis=1) - 2.0 * along * own + length * own**2
        grown = 1.0 + self._share * own
        energy: Array = len(rest) * np.log(grown) + straight - self._share * across / grown
        energy += ((last - residual) ** 2).sum(axis=1)
        # what all candidates share, so that energies with different others compare
        common = (inverse * (rest.T @ rest)).sum() - len(rest) * np.linalg.slogdet(inverse)[1]
        both: Array = 0.5 * (energy + common)
        return both
