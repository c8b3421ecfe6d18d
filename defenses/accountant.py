"""From what a unit has paid to (epsilon, delta): Opacus' accountants on the account's entries.

The account composes everything that a unit took part in, whatever came in between: an accountant built anew each round
would say 1.21 where 50 such rounds cost 4.59.
"""

import importlib.util
import math
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Literal

from palimpsest.simulator.world.privacy.account import Spending

Accountant = Literal["rdp", "prv"]

_WHOLE = (*range(2, 64), 72, 80, 96, 128, 192, 256, 384, 512)


def epsilon(spending: Spending, delta: float, accountant: Accountant = "rdp") -> float:
    """The epsilon of a composition of Poisson-subsampled Gaussian mechanisms at ``delta``; 0 where nothing was paid.

    ``rdp``: Renyi divergences at Opacus' orders and some above them, whole ones first and then the broken ones next to
    the best (every order gives a valid bound; their minimum is what is wanted). ``prv``: Opacus' numerical
    composition, its upper end.
    """
    return _epsilon(tuple(sorted(spending.items())), delta, accountant) if spending else 0.0


_BROKEN = tuple(1 + tenths / 10.0 for tenths in range(1, 100) if tenths % 10)
"""The orders between whole ones among Opacus' own."""
_SLACK = 1e-6
"""Relative error that divergences may have without an order being left out wrongly."""


@lru_cache(maxsize=100_000)
def _epsilon(paid: tuple[tuple[tuple[float, float], int], ...], delta: float, accountant: Accountant) -> float:
    if accountant == "prv":
        from opacus.accountants import PRVAccountant  # takes a second to import, and most runs spend nothing

        exact = PRVAccountant()
        exact.history = [(sigma, rate, steps) for (sigma, rate), steps in paid]
        return float(exact.get_epsilon(delta))
    best, least = _best_whole_order(paid, delta)
    near = [order for order in _BROKEN if abs(order - best) < 1.0]
    return max(0.0, min([least, *(_bound(paid, delta, order) for order in near)]))


def _best_whole_order(paid: tuple[tuple[tuple[float, float], int], ...], delta: float) -> tuple[int, float]:
    """The whole order with the least bound, and this bound.

    A divergence does not fall as its order grows, so an order whose bound would be too high even with the divergence of
    the order before is left out: high orders are what takes time.
    """
    best, least, divergence = _WHOLE[0], math.inf, 0.0
    for order in _WHOLE:
        if _converted(divergence * (1.0 - _SLACK), delta, order) > least:
            continue
        divergence = _composed(paid, order)
        bound = _converted(divergence, delta, order)
        if bound < least:
            best, least = order, bound
    return best, least


def _bound(paid: tuple[tuple[tuple[float, float], int], ...], delta: float, order: float) -> float:
    """Epsilon at one order."""
    return _converted(_composed(paid, order), delta, order)


def _composed(paid: tuple[tuple[tuple[float, float], int], ...], order: float) -> float:
    return sum(steps * _divergence(sigma, rate, order) for (sigma, rate), steps in paid)


def _converted(divergence: float, delta: float, order: float) -> float:
    """Epsilon from the Renyi divergence at one order (Balle et al., AISTATS 2020, theorem 21)."""
    return divergence - (math.log(delta) + math.log(order)) / (order - 1.0) + math.log1p(-1.0 / order)


@lru_cache(maxsize=100_000)
def _divergence(sigma: float, rate: float, order: float) -> float:
    return float(_formulas().compute_rdp(q=rate, noise_multiplier=sigma, steps=1, orders=float(order)))


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
