"""From what a unit has paid to (epsilon, delta).

The account composes everything that a unit took part in, whatever came in between: an accountant built anew each round
would say 1.21 where 50 such rounds cost 4.59. Every accountant gives an upper bound, so that the least of several
counts.
"""

import importlib.util
import math
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeAlias

from palimpsest.defenses.losses import losses
from palimpsest.simulator.world.privacy.account import Spending

Accountant = Literal["tightest", "rdp", "pld", "prv"]

SortedSpending: TypeAlias = tuple[tuple[tuple[float, float], int], ...]
"""(noise multiplier, sample rate), steps: a ``Spending`` that can be looked up, in the order of its noise."""

_PRV_REACH = 300.0
"""Above this epsilon by ``rdp``, ``prv`` would need gigabytes, and overflow."""

_WHOLE = (*range(2, 64), 72, 80, 96, 128, 192, 256, 384, 512)


def epsilon(spending: Spending, delta: float, accountant: Accountant = "tightest") -> float:
    """The epsilon of a composition of Poisson-subsampled Gaussian mechanisms at ``delta``; 0 where nothing was paid.

    Without sampling it has a closed form, and every accountant gives at most that. With sampling that closed form is
    an upper bound still, so that no accountant ends in infinity where the noise is small.

    Args:
        spending: of one unit.
        delta: in (0, 1).
        accountant: ``rdp``: Renyi divergences, by Opacus, at its orders and some above them. ``pld``: distributions of
            the privacy loss, by dp-accounting, rounded up. ``prv``: Opacus' numerical composition, its upper end.
            ``tightest``: the least of ``rdp`` and ``pld``.

    Returns:
        At least 0; infinity where a mechanism has no noise.
    """
    read = {how: steps for how, steps in spending.items() if how[1] > 0.0 and steps > 0}
    return _epsilon(tuple(sorted(read.items())), delta, accountant) if read else 0.0


_BROKEN = tuple(1 + tenths / 10.0 for tenths in range(1, 100) if tenths % 10)
"""The orders between whole ones among Opacus' own."""
_SLACK = 1e-6
"""Relative error that divergences may have without an order being left out wrongly."""


@lru_cache(maxsize=100_000)
def _epsilon(paid: SortedSpending, delta: float, accountant: Accountant) -> float:
    if any(sigma == 0.0 for (sigma, _), _ in paid):
        return math.inf
    unsampled = _gaussian(math.hypot(*(math.sqrt(steps) / sigma for (sigma, _), steps in paid)), delta)
    if all(rate == 1.0 for (_, rate), _ in paid):
        return unsampled
    if accountant != "tightest":
        return max(0.0, min(unsampled, _SAMPLED[accountant](paid, delta)))
    known = min(unsampled, _pld(paid, delta))
    return max(0.0, min(known, _rdp(paid, delta, known)))


def _gaussian(mu: float, delta: float) -> float:
    """The least epsilon of mu-GDP (Balle, Wang, ICML 2018, theorem 8)."""
    from dp_accounting import get_epsilon_gaussian

    return float(get_epsilon_gaussian(1.0 / mu, delta))


def _rdp(paid: SortedSpending, delta: float, known: float = math.inf) -> float:
    """Every order gives a valid bound: the best whole one, and the broken ones next to it.

    Args:
        paid: of one unit.
        delta: in (0, 1).
        known: an upper bound on epsilon; infinity is returned where every order is seen to give a higher one.
    """
    best, least = _best_whole_order(paid, delta, known)
    if math.isinf(least):
        return least
    bounds = [least]
    for order in _BROKEN:
        if abs(order - best) < 1.0 and not _is_above(paid, delta, order, min(*bounds, known)):
            bounds.append(_bound(paid, delta, order))
    return min(bounds)


def _is_above(paid: SortedSpending, delta: float, order: float, known: float) -> bool:
    """Whether an order's bound is seen to be above a known one by the divergence of the whole order below it."""
    below = math.floor(order)
    divergence = _composed(paid, below) * (1.0 - _SLACK) if below > 1 else 0.0
    return _converted(divergence, delta, order) > known


def _best_whole_order(paid: SortedSpending, delta: float, known: float = math.inf) -> tuple[int, float]:
    """The whole order with the least bound, and this bound; (2, infinity) where none is below a known one.

    A divergence does not fall as its order grows, so an order whose bound would be too high even with the divergence of
    the order before is left out: high orders are what takes time.
    """
    best, least, divergence = _WHOLE[0], math.inf, 0.0
    for order in _WHOLE:
        if _converted(divergence * (1.0 - _SLACK), delta, order) > min(least, known):
            continue
        divergence = _composed(paid, order)
        bound = _converted(divergence, delta, order)
        if bound < least:
            best, least = order, bound
    return best, least


def _bound(paid: SortedSpending, delta: float, order: float) -> float:
    """Epsilon at one order."""
    return _converted(_composed(paid, order), delta, order)


def _composed(paid: SortedSpending, order: float) -> float:
    return sum(steps * _divergence(sigma, rate, order) for (sigma, rate), steps in paid)


def _converted(divergence: float, delta: float, order: float) -> float:
    """Epsilon from the Renyi divergence at one order (Balle et al., AISTATS 2020, theorem 21)."""
    return divergence - (math.log(delta) + math.log(order)) / (order - 1.0) + math.log1p(-1.0 / order)


@lru_cache(maxsize=100_000)
def _divergence(sigma: float, rate: float, order: float) -> float:
    try:
        return float(_formulas().compute_rdp(q=rate, noise_multiplier=sigma, steps=1, orders=float(order)))
    except OverflowError:  # its sums overflow at tiny noise; without sampling the divergence is at least as large
        return order / (2.0 * sigma**2)


@cache
def _formulas() -> ModuleType:
    """Opacus' module of formulas, without the package around it, whose import takes a second (torch.distributed)."""
    package = importlib.util.find_spec("opacus")
    if package is None or not package.submodule_search_locations:
        raise ImportError("opacus is not installed")
    path = Path(package.submodule_search_locations[0]) / "accountants" / "analysis" / "rdp.py"
    spec = importlib.util.spec_from_file_location("palimpsest_opacus_rdp", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pld(paid: SortedSpending, delta: float) -> float:
    mu = math.hypot(*(math.sqrt(steps) / sigma for (sigma, rate), steps in paid if rate == 1.0))
    sampled = tuple((sigma, rate, steps) for (sigma, rate), steps in paid if rate < 1.0)
    try:
        return float(losses(sampled, mu).get_epsilon_for_delta(delta))
    except OverflowError:  # noise so small that one step's loss has no exponential
        return math.inf


def _prv(paid: SortedSpending, delta: float) -> float:
    from opacus.accountants import PRVAccountant

    if _rdp(paid, delta) > _PRV_REACH:
        return math.inf
    composed = PRVAccountant()
    composed.history = [(sigma, rate, steps) for (sigma, rate), steps in paid]
    return float(composed.get_epsilon(delta))


_SAMPLED: dict[Accountant, Callable[[SortedSpending, float], float]] = {"rdp": _rdp, "pld": _pld, "prv": _prv}
