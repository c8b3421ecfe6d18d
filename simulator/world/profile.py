"""What an attack says of somebody whose records were all deleted: how many of each class, and what they look like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from palimpsest.simulator.world.records import Array


@dataclass(frozen=True)
class Profile:
    """The statistics of the deleted records of one case, each with the ends of its 95 % interval.

    Attributes:
        case: index of the case.
        counts, counts_low, counts_high: ``[Q]`` deleted records of each class; counts add up to the case's size.
        means, means_low, means_high: ``[Q, d]`` mean record of each class, in the model's input units. Of a class that
            nobody may have deleted it is where its records would be.
        columns, columns_low, columns_high: ``[d]`` mean of each column over all deleted records, in the data's original
            units (images: pixels in [0, 1]; categories: their shares).
        no_signal: True where the models did not differ and the public sample's statistics were returned instead.
    """

    name: ClassVar[str] = "profile"

    case: int
    counts: NDArray[np.float64]
    counts_low: NDArray[np.float64]
    counts_high: NDArray[np.float64]
    means: NDArray[np.float64]
    means_low: NDArray[np.float64]
    means_high: NDArray[np.float64]
    columns: NDArray[np.float64]
    columns_low: NDArray[np.float64]
    columns_high: NDArray[np.float64]
    no_signal: bool = False

    @classmethod
    def pack(cls, guesses: Sequence[Self]) -> dict[str, Array]:
        """Every field, a row for each case."""
        return {field.name: np.stack([getattr(guess, field.name) for guess in guesses]) for field in fields(cls)}

    @classmethod
    def unpack(cls, arrays: Mapping[str, Array]) -> list[Self]:
        """The answers, a case at a time."""
        numbers = [field.name for field in fields(cls) if field.name not in ("case", "no_signal")]
        return [
            cls(case=int(case), no_signal=bool(no_signal), **{name: arrays[name][i] for name in numbers})
            for i, (case, no_signal) in enumerate(zip(arrays["case"], arrays["no_signal"], strict=True))
        ]
