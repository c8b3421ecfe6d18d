"""How many deleted records each class has: every composition of the size, weighed by how well it explains G."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import gammaln

from palimpsest.attacks.average import proportional
from palimpsest.attacks.contributions import Contributions
from palimpsest.simulator.world.records import Array

_CONCENTRATION = 0.3
"""Of the prior, for each class on average: clients hold few classes rather than all alike."""
_FITS = 3
_STRAYS = tuple(10.0 ** (power / 2) for power in range(-4, 7))
"""Terms of other records that are tried, as shares of the size."""
_EVIDENCE = 2.0
"""By how much they have to raise the log-likelihood: about 95 % of a G without any does not reach that by chance."""
_CHAINS = 16
_SWEEPS, _BURNED = 60, 20
_GRID = 400
"""Values that one count may take, at most: of more records, several are exchanged at a time."""


@dataclass(frozen=True)
class ClassCounts:
    """Draws from the posterior of the counts, and the covariance under which they were drawn.

    Attributes:
        draws: ``[s, Q]`` counts, each row adding up to the size.
        covariance: ``[v, v]`` of the observation, stretched by how much worse than expected the best counts explain it.
        scale: by which the observation was multiplied: 1 where its length was known.
        seen: what the counts were drawn from, timed by the best of them.
    """

    draws: NDArray[np.int64]
    covariance: Array
    scale: float
    seen: Contributions


def class_counts(seen: Contributions, size: int, rng: np.random.Generator) -> ClassCounts:
    """Draw counts given G.

    Prior: Dirichlet-multinomial about the public shares. Likelihood: Gaussian about counts times class means, with the
    covariance at the best counts. What is not the deleted records' doing looks like terms of other records, of either
    sign: as many as make G likeliest are granted, if any
    are needed. Where the best counts still explain G worse than the covariance
    allows, it is stretched until they do. Of a G that is mostly something else, the answer is then nearly the prior.

    Args:
        seen: G through few directions.
        size: how many records were deleted.
        rng: draws.
    """
    share = seen.members / seen.members.sum()
    seen = seen.timed(share)
    fit = _fitted(seen, share * size, size, seen.strays)
    for _ in range(_FITS):
        seen = seen.timed(fit.counts)
        fit = _fitted(seen, fit.counts, size, seen.strays)
    others = [_fitted(seen, fit.counts, size, seen.strays + size * many) for many in _STRAYS]
    likeliest = max(others, key=lambda each: each.likelihood)
    fit = likeliest if likeliest.likelihood > fit.likelihood + _EVIDENCE else fit
    prior = _CONCENTRATION * len(share) * share
    precision = fit.typical @ fit.typical.T / fit.stretch
    pull = fit.typical @ fit.observed / fit.stretch
    return ClassCounts(
        _draws(precision, pull, fit.counts, prior, size, rng), fit.covariance * fit.stretch, fit.scale, seen
    )


@dataclass(frozen=True)
class _Fit:
    """The best counts under one covariance.

    Attributes:
        counts: ``[Q]``.
        covariance: ``[v, v]``.
        typical, observed: ``[Q, v]`` class means and ``[v]`` observation, whitened by it.
        scale: by which the observation was multiplied.
        stretch: by how much more than expected is left unexplained; at least 1.
        likelihood: log density of the observation whatever the counts, up to a constant.
    """

    counts: Array
    covariance: Array
    typical: Array
    observed: Array
    scale: float
    stretch: float
    likelihood: float


def _fitted(seen: Contributions, about: Array, size: int, strays: float) -> _Fit:
    """Fit counts under the covariance at other counts, with so many records of others."""
    covariance = seen.covariance(about, strays)
    root = np.linalg.cholesky(covariance)
    whiten = np.linalg.inv(root)
    typical, observed = seen.means @ whiten.T, whiten @ seen.observed
    scale = 1.0 if seen.length_known else _length(typical, observed, size)
    counts = _best(typical, scale * observed, size)
    misfit = float(((scale * observed - counts @ typical) ** 2).sum())
    free = max(len(observed) - len(counts) + 1, 1)
    likelihood = _likelihood(typical, scale * observed, size * seen.members / seen.members.sum())
    likelihood -= float(np.log(np.diag(root)).sum())
    return _Fit(counts, covariance, typical, scale * observed, scale, max(1.0, misfit / free), likelihood)


def _likelihood(typical: Array, observed: Array, expected: Array) -> float:
    """Log density of a whitened observation, counts varying about the expected ones as the prior has it."""
    size, concentration = float(expected.sum()), _CONCENTRATION * len(expected)
    share = expected / size
    varies = size * (size + concentration) / (1.0 + concentration) * (np.diag(share) - np.outer(share, share))
    covariance = np.eye(len(observed)) + typical.T @ varies @ typical
    away = observed - expected @ typical
    return -0.5 * float(away @ np.linalg.solve(covariance, away) + np.linalg.slogdet(covariance)[1])


def _best(typical: Array, observed: Array, size: int) -> Array:
    """``[Q]`` the counts of the size that explain an observation best, by non-negative least squares."""
    heavy = 1e3 * np.sqrt(np.mean(typical**2) * len(observed)) + np.finfo(np.float64).tiny
    rows = np.concatenate([typical.T, np.full((1, len(typical)), heavy)])
    counts: Array = nnls(rows, np.append(observed, heavy * size))[0]
    counts *= size / max(float(counts.sum()), 1e-12)
    return counts


def _length(typical: Array, observed: Array, size: int) -> float:
    """By how much an observation of unknown length has to be multiplied; 0 where no counts explain any of it."""
    total = float(nnls(typical.T, observed)[0].sum())
    return size / total if total > 0.0 else 0.0


def _draws(
    precision: Array, pull: Array, best: Array, prior: Array, size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Gibbs sampling: two classes share their records anew, given all others."""
    outputs = len(best)
    unit = -(-size // _GRID)
    counts = np.stack([_start(chain, best, prior, size, rng) for chain in range(_CHAINS)])
    table = _log_prior(prior, size)
    slope = counts @ precision - pull
    pairs = [(a, b) for a in range(outputs) for b in range(a)]
    kept = []
    for sweep in range(_SWEEPS):
        for i in rng.permutation(len(pairs)):
            a, b = pairs[i]
            moved = _exchanged(counts, slope, precision, table, (a, b), unit, rng)
            counts[:, a] += moved
            counts[:, b] -= moved
            slope += moved[:, None] * (precision[a] - precision[b])
        if sweep >= _BURNED:
            kept.append(counts.copy())
    return np.concatenate(kept)


def _exchanged(
    counts: NDArray[np.int64],
    slope: Array,
    precision: Array,
    table: Array,
    pair: tuple[int, int],
    unit: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """``[chains]`` how many records go from the second class of a pair to its first."""
    a, b = pair
    both = counts[:, a] + counts[:, b]
    grid = (counts[:, a] % unit)[:, None] + unit * np.arange(both.max() // unit + 1)
    allowed = grid <= both[:, None]
    moved = grid - counts[:, a, None]
    curvature = precision[a, a] + precision[b, b] - 2.0 * precision[a, b]
    inside = np.where(allowed, grid, 0)
    weight = -moved * (slope[:, a] - slope[:, b])[:, None] - 0.5 * curvature * moved**2
    weight += table[a][inside] + table[b][both[:, None] - inside]
    weight = np.where(allowed, weight, -np.inf) + rng.gumbel(size=weight.shape)
    chosen: NDArray[np.int64] = np.take_along_axis(moved, weight.argmax(axis=1)[:, None], axis=1)[:, 0]
    return chosen


def _log_prior(prior: Array, size: int) -> Array:
    """``[Q, size + 1]`` of each class and count, up to a constant; -inf of a class that the public sample lacks."""
    counts = np.arange(size + 1)
    table = np.full((len(prior), size + 1), -np.inf)
    table[:, 0] = 0.0
    some = prior > 0
    table[some] = gammaln(counts + prior[some, None]) - gammaln(counts + 1.0) - gammaln(prior[some, None])
    return table


def _start(chain: int, best: Array, prior: Array, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Half of the chains begin at the best counts, half anywhere."""
    if chain % 2:
        return rng.multinomial(size, prior / prior.sum())
    share = np.where(prior > 0, best, 0.0) + 1e-9 * prior
    return np.bincount(proportional(share / share.sum(), size).astype(np.int64), minlength=len(best))
