"""From the scores of trials with and without a canary to the epsilon that was lost at least.

Every test of one world against the other errs as the trade-off curve allows at best. For mu-GDP that curve has one
parameter: mu = Phi^-1(true positives) - Phi^-1(false positives) at any threshold (Dong, Roth, Su, JRSS-B 2022), which a
few thousand trials tell well, where log((TPR - delta) / FPR) would need millions at the same epsilon (Nasr et al.,
USENIX Security 2023).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import binom

from palimpsest.defenses.accountant import epsilon
from palimpsest.simulator.results.intervals import share_interval
from palimpsest.simulator.world.records import Array

_TRIED = 40
"""Thresholds that are tried for the direct bound."""
_LARGEST = 60.0
"""Epsilon above which no audit in one run looks."""


@dataclass(frozen=True)
class Loss:
    """What trials say of a mechanism.

    Attributes:
        mu, mu_low, mu_high: of the Gaussian trade-off curve through the operating point, and its ends.
        true_low, false_high: ends of the intervals of the two rates: the test is at least so good.
        direct: log((TPR - delta) / FPR) at such ends, at the threshold that shows most: an epsilon that is lost
            whatever the mechanism is; at least 0.
        trials: that the rates were counted over, of each world.
    """

    mu: float
    mu_low: float
    mu_high: float
    true_low: float
    false_high: float
    direct: float
    trials: int


def loss_of(absent: Array, present: Array, delta: float, error: float = 0.05) -> Loss:
    """Judge scores; the threshold is chosen on one half of the trials, and rates are counted on the other.

    Args:
        absent, present: ``[trials]`` scores without and with the canary, higher where it seems present.
        delta: at which ``direct`` is taken.
        error: with which all ends together may be wrong.
    """
    halves, against = ((absent[part::2], present[part::2]) for part in (0, 1))
    middle = _rates(against, _threshold(*halves), error / 2.0)
    strict = _rates(against, _strictest(halves, delta, error / 2.0), error / 2.0)
    trials = min(map(len, against))
    edge = 0.5 / trials
    return Loss(
        mu=_mu(*(float(np.clip(share, edge, 1.0 - edge)) for share in (middle.true, middle.false))),
        mu_low=max(0.0, _mu(middle.true_low, middle.false_high)),
        mu_high=max(0.0, _mu(middle.true_high, middle.false_low)),
        true_low=middle.true_low,
        false_high=middle.false_high,
        direct=max(0.0, _direct(strict.true_low, strict.false_high, delta)),
        trials=trials,
    )


@dataclass(frozen=True)
class _Rates:
    """Shares of trials above a threshold, with the canary (``true``) and without it, and their intervals' ends."""

    true: float
    true_low: float
    true_high: float
    false: float
    false_low: float
    false_high: float


def _rates(worlds: tuple[Array, ...], threshold: float, error: float) -> _Rates:
    false, true = (float((scores > threshold).mean()) for scores in worlds)
    ends = [share_interval(share, len(w), error / 2.0) for share, w in zip((false, true), worlds, strict=True)]
    return _Rates(true, *ends[1], false, *ends[0])


def _strictest(worlds: tuple[Array, ...], delta: float, error: float) -> float:
    """The threshold, of some that few trials without the canary pass, that would show most directly."""
    few = np.unique(np.geomspace(1.0, max(2.0, len(worlds[0]) / 2.0), _TRIED).astype(np.int64))
    tried = np.sort(worlds[0])[::-1][few - 1]
    rates = [_rates(worlds, float(threshold), error) for threshold in tried]
    return float(tried[int(np.argmax([_direct(each.true_low, each.false_high, delta) for each in rates]))])


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of mu-GDP."""
    return epsilon({(1.0 / mu, 1.0): 1}, delta) if 0.0 < mu < math.inf else (math.inf if mu else 0.0)


def one_run_epsilon(correct: int, guesses: int, canaries: int, delta: float, error: float = 0.05) -> float:
    """Epsilon that one run with many canaries refutes at least (Steinke, Nasr, Jagielski, NeurIPS 2023, theorem 5.2).

    Each canary was in the run by a fair coin of its own; of ``guesses`` that were ventured so many were ``correct``.
    """

    def excess(value: float) -> float:
        return _chance(correct, guesses, canaries, value, delta) - error

    if excess(0.0) > 0.0:
        return 0.0
    return _LARGEST if excess(_LARGEST) < 0.0 else float(brentq(excess, 0.0, _LARGEST, xtol=1e-6))


def _chance(correct: int, guesses: int, canaries: int, value: float, delta: float) -> float:
    """Probability of so many correct guesses at most, under (value, delta)-differential privacy."""
    chance = 1.0 / (1.0 + math.exp(-value))
    fewer = binom.pmf(correct - np.arange(1, correct + 1), guesses, chance)
    steepest = float((np.cumsum(fewer) / np.arange(1, correct + 1)).max()) if correct else 0.0
    return min(1.0, float(binom.sf(correct - 1, guesses, chance)) + 2.0 * canaries * delta * steepest)


def _threshold(absent: Array, present: Array) -> float:
    """Where the difference of the two rates is largest: for Gaussians of one deviation, half-way."""
    both = np.sort(np.concatenate([absent, present]))
    over = [1.0 - np.searchsorted(np.sort(scores), both, side="right") / len(scores) for scores in (absent, present)]
    return float(both[int((over[1] - over[0]).argmax())])


def _mu(true: float, false: float) -> float:
    return float(ndtri(true) - ndtri(false))


def _direct(true: float, false: float, delta: float) -> float:
    return math.log((true - delta) / false) if true > delta and false > 0.0 else 0.0
