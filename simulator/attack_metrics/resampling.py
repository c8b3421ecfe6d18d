"""Intervals over resampled draws: deletions where there are enough of them, else the records that were deleted.

The records of one deletion are no independent draws. Where deletions are too few for an interval, only records can
be compared, and the interval says nothing of other deletions.
"""

from typing import Literal

import numpy as np
import pandas as pd

from palimpsest.simulator.results.intervals import FEWEST
from palimpsest.simulator.world.records import Array

RESAMPLES = 1000


def unit_of(frame: pd.DataFrame) -> Literal["deletion", "record"] | None:
    """What is resampled; None where there is too little of either for an interval of a median.

    Args:
        frame: a row for each record, with its ``case``.
    """
    if frame["case"].nunique() >= FEWEST:
        return "deletion"
    return "record" if len(frame) >= FEWEST else None


class Resampled:
    """Medians of columns over the same resamples of deletions or records.

    Args:
        frame: a row for each record, with its ``case``.
        rng: draws the resamples, once.
    """

    def __init__(self, frame: pd.DataFrame, rng: np.random.Generator) -> None:
        self.unit = unit_of(frame)
        cases = frame["case"] if self.unit == "deletion" else pd.Series(np.arange(len(frame)))
        groups = cases.groupby(cases.to_numpy(), sort=False)
        self._places = groups.ngroup().to_numpy(), groups.cumcount().to_numpy()
        self._draws = rng.integers(0, groups.ngroups, (RESAMPLES, groups.ngroups))

    def interval_of_median(self, values: Array) -> list[float] | None:
        """95 % percentile interval of the median; None where there is too little to resample.

        Args:
            values: ``[n]`` in the order of the frame.
        """
        if self.unit is None:
            return None
        padded = np.full([1 + int(place.max()) for place in self._places], np.nan)
        padded[self._places] = values
        chunks = np.array_split(self._draws, 20)
        medians = np.concatenate([_medians(padded[some].reshape(len(some), -1)) for some in chunks])
        low, high = np.percentile(medians, [2.5, 97.5])
        return [float(low), float(high)]


def _medians(rows: Array) -> Array:
    """Median of each row, its padding left out."""
    middle: Array = np.nanmedian(rows, axis=1) if np.isnan(rows).any() else np.median(rows, axis=1)
    return middle


def interval_of_median(values: Array, rng: np.random.Generator) -> list[float]:
    """95 % percentile interval of the median over deletions, one value each.

    Args:
        values: ``[deletions]``.
        rng: draws the resamples.
    """
    draws = rng.integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return [float(low), float(high)]
