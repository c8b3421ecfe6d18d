"""How well scores tell deleted records from held-out ones, with intervals over both.

Every case scores the same held-out records. They are counted once, and resampled as records: fifty cases make no more
of them. Deletions are resampled as well, or their records where deletions are too few for an interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from palimpsest.simulator.attack_metrics.challenge import Status
from palimpsest.simulator.attack_metrics.resampling import RESAMPLES, unit_of
from palimpsest.simulator.results.intervals import share_interval
from palimpsest.simulator.unlearning_metrics.membership import RATES
from palimpsest.simulator.world.records import Array, Scores

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Separation:
    """One score of all cases' deleted records beside held-out ones.

    Attributes:
        cases: ``[p]`` the case of each deleted record.
        below: ``[p, h]`` share of the cases in which the held-out record scores less than the deleted one, ties half.
        reached: ``[p, h]`` share of the cases in which it scores as much, or more.
        of_deleted: ``[resamples, p]`` weights of deleted records in each resample; None where there are too few.
        of_held_out: ``[resamples, h]`` the same of held-out ones.
    """

    cases: NDArray[np.int64]
    below: Array
    reached: Array
    of_deleted: Array | None
    of_held_out: Array

    @classmethod
    def of(
        cls, status: NDArray[np.int64], answers: Sequence[Scores], field: str, rng: np.random.Generator
    ) -> "Separation":
        """Compare every deleted record's score with those of every held-out record in all cases.

        Args:
            status: ``[cases, e]`` the solution of the challenge.
            answers: one a case.
            field: of the answers, which holds the score.
            rng: draws the resamples.
        """
        values = np.stack([getattr(answer, field) for answer in answers])
        cases, entries = np.nonzero(status == Status.DELETED)
        answered, held = values[cases, entries], np.sort(values[:, status[0] == Status.HELD_OUT], axis=0).T
        less = np.stack([np.searchsorted(row, answered, "left") for row in held], axis=1) / len(values)
        most = np.stack([np.searchsorted(row, answered, "right") for row in held], axis=1) / len(values)
        unit = unit_of(pd.DataFrame({"case": cases}))
        groups = np.unique(cases, return_inverse=True)[1] if unit == "deletion" else np.arange(len(cases))
        deleted = _weights(int(groups.max()) + 1, rng)[:, groups]
        return cls(cases, (less + most) / 2.0, 1.0 - less, None if unit is None else deleted, _weights(len(held), rng))

    def area(self) -> list[float] | None:
        """95 % interval of the area under the ROC; None where there are too few deleted records."""
        if self.of_deleted is None:
            return None
        together = ((self.of_deleted @ self.below) * self.of_held_out).sum(axis=1)
        return _ends(together / (self.of_deleted.sum(axis=1) * self.of_held_out.sum(axis=1)))

    def at_low_rates(self, prefix: str, suffix: str) -> dict[str, Any]:
        """True positive rates at low false positive rates, by name, with intervals under the name and ``_ci95``.

        A rate below one held-out record is absent. An interval is the wider one of Clopper-Pearson's, deletions taken
        for the trials, and of that over resamples, in which the threshold moves too.
        """
        figures: dict[str, Any] = {}
        count = self.reached.shape[1]
        for rate in (name for name, share in RATES.items() if share * count >= 1.0):
            told = self.reached.mean(axis=1) <= RATES[rate] + _ROUNDING
            hit_rate = float(told.mean())
            low, high = share_interval(hit_rate, len(np.unique(self.cases)))
            if self.of_deleted is not None:
                passed = self.of_held_out @ self.reached.T / count <= RATES[rate] + _ROUNDING
                ends = _ends((self.of_deleted * passed).sum(axis=1) / self.of_deleted.sum(axis=1))
                low, high = min(low, ends[0]), max(high, ends[1])
            figures |= {f"{prefix}{rate}{suffix}": hit_rate, f"{prefix}{rate}{suffix}_ci95": [low, high]}
        return figures


def _weights(count: int, rng: np.random.Generator) -> Array:
    """``[resamples, count]`` how often each of ``count`` draws is in a resample of as many."""
    weights: Array = rng.multinomial(count, np.full(count, 1.0 / count), RESAMPLES).astype(np.float64)
    return weights


def _ends(values: Array) -> list[float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]
