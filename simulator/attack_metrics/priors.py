"""What somebody achieves who saw no model: how often the best constant guess is like a record."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from palimpsest.simulator.results.intervals import share_interval
from palimpsest.simulator.world.records import Array

THRESHOLDS = {"cosine": 0.9, "cosine_centred": 0.5}
"""Columns of scores and from where on an answer counts as the record: very alike, and clearly more than the mean."""

_SHIFTS = 4
_WIDER, _STEPS = 0.3, 10
_LARGEST = 1000
_FEWEST = 20
_KEPT = 8
"""So many samples' guesses are kept: arms of one training share theirs, and looking for them takes half a second."""

Count: TypeAlias = tuple[int, int]
"""How often a guess was right, and of how many records."""

_kept: OrderedDict[bytes, dict[str, Count]] = OrderedDict()


@dataclass(frozen=True)
class Share:
    """A share of independent trials, with its Clopper-Pearson interval."""

    found: float
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, trials: int, error: float) -> "Share":
        """Estimate it; the interval misses the truth with probability ``error`` at most."""
        return cls(successes / trials, *share_interval(successes / trials, trials, error))


@dataclass(frozen=True)
class Prior:
    """What somebody achieves who saw no model.

    Attributes:
        share: of one guess for one record.
        how: ``exact``, or ``estimate``: of the best guess that was found.
        uneven: whether it depends on which records are drawn. How many are deleted together may then depend on it too.
    """

    share: Share
    how: Literal["exact", "estimate"]
    uneven: bool = False

    def counted(self, sizes: Array) -> Array:
        """``[cases]`` how many records to reckon with in each case: where draws are uneven, the most of any."""
        return np.full_like(sizes, sizes.max()) if self.uneven else sizes


def priors(public_x: Array, mean: Array, error: float, rng: np.random.Generator) -> dict[str, Prior]:
    """The best guess that was found, by event; events for which records are too few are absent.

    Args:
        public_x: ``[n, d]`` records of the same distribution as the deleted ones, in any type.
        mean: ``[d]`` the public mean that scores are centred by.
        error: of each interval.
        rng: splits the records, see ``best_guesses``.
    """
    counts = best_guesses(public_x, mean, rng)
    return {event: Prior(Share.of(*count, error), "estimate") for event, count in counts.items()}


def best_guesses(public_x: Array, mean: Array, rng: np.random.Generator) -> dict[str, Count]:
    """How often the best guess that was found is right, by event; events for which records are too few are absent.

    Args:
        public_x: ``[n, d]`` records of the same distribution as the deleted ones, in any type.
        mean: ``[d]`` the public mean that scores are centred by.
        rng: splits the records. Asked again for the same of all three, what was found is given again.
    """
    key = hashlib.blake2b(repr((public_x.shape, str(public_x.dtype), rng.bit_generator.state)).encode())
    for array in (public_x, mean):
        key.update(np.ascontiguousarray(array).data)
    if (known := _kept.get(key.digest())) is None:
        centres = {column: mean if column == "cosine_centred" else np.zeros_like(mean) for column in THRESHOLDS}
        counts = {
            f"{column}>={threshold:g}": best_guess(public_x, centres[column], threshold, rng)
            for column, threshold in THRESHOLDS.items()
        }
        known = {event: count for event, count in counts.items() if count is not None}
        _kept[key.digest()] = known
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
    return known


def best_guess(points: Array, centre: Array, threshold: float, rng: np.random.Generator) -> Count | None:
    """How often the best constant guess has at least this cosine with a record; None where records are too few.

    The guess is looked for on one half of the records (from each of them, moving to the mean direction of all within
    reach; once with this reach from the start, and once with a wide reach that narrows to it), and judged on the other
    half. It is the best that was found, and not the best there is.

    Args:
        points: ``[n, d]`` records, of which a thousand are drawn.
        centre: ``[d]`` what is taken off records before their directions are compared.
        threshold: cosine from where on a guess counts.
        rng: draws and splits the records.
    """
    elsewhere = np.flatnonzero((points != centre).any(axis=1))
    drawn = points[elsewhere[rng.permutation(len(elsewhere))[:_LARGEST]]].astype(np.float64) - centre
    lengths = np.linalg.norm(drawn, axis=1, keepdims=True)
    units = drawn[lengths[:, 0] > 0.0] / lengths[lengths > 0.0, None]  # a difference may be too small to have a length
    fitted, held = units[::2], units[1::2]
    if len(held) < _FEWEST:
        return None
    return int((held @ _fullest(fitted, threshold) >= threshold).sum()), len(held)


def _fullest(units: Array, threshold: float) -> Array:
    """``[d]`` of all places that directions ``[n, d]`` come to, the first that has most of them within reach.

    Each of them moves to the mean of those within reach, again and again.
    """
    best: Array = units[0]
    most = 0
    for reaches in _reaches(threshold):
        places = units
        for reach in (*reaches, None):
            cosines = places @ units.T
            counts = (cosines >= threshold).sum(axis=1)
            if counts.max() > most:
                best, most = places[counts.argmax()], counts.max()
            if reach is not None:
                pulled = (cosines >= reach) @ units
                places = pulled / np.maximum(np.linalg.norm(pulled, axis=1, keepdims=True), 1e-300)
    return best


def _reaches(threshold: float) -> list[list[float]]:
    """Cosines within which directions move, step by step: narrow from the start, and from wide to narrow."""
    narrow = [threshold] * _SHIFTS
    return [narrow, [*np.linspace(threshold - _WIDER, threshold, _STEPS), *narrow]]
