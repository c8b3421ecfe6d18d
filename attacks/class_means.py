"""What the deleted records of each class look like: public statistics, moved by what the counts leave unexplained."""

from dataclasses import dataclass

import numpy as np

from palimpsest.attacks.class_counts import ClassCounts
from palimpsest.attacks.contributions import Contributions
from palimpsest.simulator.world.records import Array

_ENDS = 1.96


@dataclass(frozen=True)
class Estimate:
    """Means of records, ``[..., d]``, with the ends of their 95 % intervals."""

    mean: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, mean: Array, variance: Array) -> "Estimate":
        """A Gaussian."""
        ends = _ENDS * np.sqrt(np.maximum(variance, 0.0))
        return cls(mean, mean - ends, mean + ends)


def class_means(class_counts: ClassCounts, x: Array) -> tuple[Estimate, Estimate]:
    """The mean record of each class ``[Q, d]``, and of all classes together ``[d]``.

    Records and what they add to u vary together within a class: with C_k their covariance, S that of u and c the mean
    counts, the mean record of class k is mu_k + C_k S^-1 (u - sum of c_l m_l), as of joint Gaussians. What is not known
    of the counts is propagated to first order.

    Args:
        class_counts: draws of the counts.
        x: ``[m, d]`` public records.
    """
    seen = class_counts.seen
    counts, members = class_counts.draws.mean(axis=0), np.maximum(seen.members, 1)
    size = counts.sum()
    spread = np.atleast_2d(np.cov(class_counts.draws.T))
    solved = np.linalg.inv(class_counts.covariance)
    rest = solved @ (class_counts.scale * seen.observed - counts @ seen.means)
    centres = np.stack(
        [x[seen.y == label].mean(axis=0) if (seen.y == label).any() else x.mean(axis=0) for label in range(len(counts))]
    )
    within = x - centres[seen.y]
    means, variances = [], []
    together, shared = np.zeros((x.shape[1], len(solved))), np.zeros(x.shape[1])
    for label, count in enumerate(counts):
        mine = seen.y == label
        crossed = within[mine].T @ (seen.records[mine] - seen.means[label]) / members[label]
        varies = (within[mine] ** 2).sum(axis=0) / members[label]
        means.append(centres[label] + crossed @ rest)
        variances.append(varies * (1.0 / max(count, 1.0) + 1.0 / members[label]) + _left(crossed, solved, seen, spread))
        together += count * crossed / size
        shared += varies * (count / size**2 + (count / size) ** 2 / members[label])
    overall = (counts @ centres) / size + together @ rest
    shared = shared + _left(together, solved, seen, spread, centres.T / size)
    return Estimate.of(np.stack(means), np.stack(variances)), Estimate.of(overall, shared)


def _left(crossed: Array, solved: Array, seen: Contributions, spread: Array, self_part: Array | float = 0.0) -> Array:
    """``[d]`` what the observation takes from the variance, and what doubtful counts add to it.

    Args:
        crossed: ``[d, v]`` covariance of a mean with u.
        solved: ``[v, v]`` S^-1.
        seen: for the class means.
        spread: ``[Q, Q]`` covariance of the counts.
        own: ``[d, Q]`` how the mean moves with the counts by itself.
    """
    gain = crossed @ solved
    moves = self_part - gain @ seen.means.T
    left: Array = ((moves @ spread) * moves).sum(axis=1) - (gain * crossed).sum(axis=1)
    return left
