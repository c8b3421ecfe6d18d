"""From raw records to the flat rows that models read; all statistics come from the public sample."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.data.texts import bags, vocabulary
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array


@dataclass(frozen=True)
class Encoder:
    """Encodes records: images to [0, 1], numeric columns standardised, categorical ones one-hot.

    Attributes:
        shape: of an encoded record, as in ``Schema``.
        levels: for each categorical column the codes of the public sample, ascending; a code that is not among them
            becomes zeros, as a level known only from private records would tell about them.
        usual: for each categorical column the most frequent code of the public sample, in place of a missing one.
        mean, scale: ``[columns]`` of the numeric columns; scale is 1 where the public sample does not vary.
        names: of the encoded columns; empty for images.
        bags: for each column of text ``[levels, words]`` counts of the words that the public sample uses.
    """

    shape: tuple[int, ...]
    numeric: Array
    levels: dict[int, Array]
    mean: Array
    scale: Array
    names: tuple[str, ...] = ()
    usual: dict[int, float] = field(default_factory=dict)
    bags: dict[int, Array] = field(default_factory=dict)

    @classmethod
    def fit(cls, raw: Raw, public: Array) -> "Encoder":
        """Take everything that has to be estimated from the public rows."""
        nothing = np.zeros(0)
        if raw.is_image:
            height, width, *channels = raw.x.shape[1:]
            return cls((channels[0] if channels else 1, height, width), nothing, {}, nothing, nothing)
        sample = raw.x[public]
        numeric = np.flatnonzero(~raw.categorical)
        names = raw.feature_names or tuple(f"x{column}" for column in range(raw.x.shape[1]))
        _refuse_unseen(sample, names)
        words = {k: vocabulary(names[k], [raw.levels[k][int(code)] for code in sample[:, k]]) for k in raw.texts}
        counted_words = {k: bags(raw.levels[k], known) for k, known in words.items()}
        present = {int(k): _present(sample[:, k]) for k in np.flatnonzero(raw.categorical) if k not in words}
        counted = {column: np.unique(values, return_counts=True) for column, values in present.items()}
        levels = {column: levels_of for column, (levels_of, _) in counted.items()}
        usual = {column: float(levels_of[counts.argmax()]) for column, (levels_of, counts) in counted.items()}
        mean, scale = _statistics(sample[:, numeric], [names[column] for column in numeric])
        encoded = _encoded_names(names, levels, raw.levels, words)
        return cls((len(encoded),), numeric, levels, mean, scale, encoded, usual, counted_words)

    def __call__(self, x: Array) -> Array:
        """``[n, ...]`` raw to ``[n, d]`` float32; one-hot columns stand where the categorical one stood."""
        if len(self.shape) == 3:
            images = x if x.ndim == 3 else np.moveaxis(x, -1, 1)
            flat = images.reshape(len(x), math.prod(self.shape)).astype(np.float32)
            return flat / np.float32(255.0) if x.dtype == np.uint8 else flat
        x = self._filled(x)
        scaled = np.zeros(x.shape)
        scaled[:, self.numeric] = (x[:, self.numeric] - self.mean) / self.scale
        if np.abs(scaled).max(initial=0.0) > np.finfo(np.float32).max:
            raise DataError(
                "a private record is so far from the public sample that single precision does not hold it, in units of "
                "the public standard deviation; look for values that are wrong, or take the logarithm of the column"
            )
        parts = [
            self.bags[column][x[:, column].astype(np.int64)]
            if column in self.bags
            else x[:, [column]] == self.levels[column]
            if column in self.levels
            else scaled[:, [column]]
            for column in range(x.shape[1])
        ]
        encoded: Array = np.concatenate(parts, axis=1).astype(np.float32)
        return encoded

    def _filled(self, x: Array) -> Array:
        """``x`` with the public sample's mean, or most frequent category, where a value is missing."""
        missing = np.isnan(x)
        if not missing.any():
            return x
        values = np.zeros(x.shape[1])
        values[self.numeric] = self.mean
        for column, code in self.usual.items():
            values[column] = code
        return np.where(missing, values, x)

    def box(self, public_x: Array) -> tuple[Array, Array]:
        """``([d], [d])`` float64 range of each encoded column: [0, 1] for images, the public sample's for tables."""
        if len(self.shape) == 3:
            width = public_x.shape[1]
            return np.zeros(width), np.ones(width)
        return public_x.min(axis=0).astype(np.float64), public_x.max(axis=0).astype(np.float64)

    def statistics(self) -> dict[str, list[float]]:
        """``mean`` and ``scale`` of every encoded column (0 and 1 for one-hot ones); empty for images."""
        if len(self.shape) == 3:
            return {}
        place = {int(column): position for position, column in enumerate(self.numeric)}
        mean: list[float] = []
        scale: list[float] = []
        for column in range(len(self.numeric) + len(self.levels) + len(self.bags)):
            if column in place:
                mean.append(float(self.mean[place[column]]))
                scale.append(float(self.scale[place[column]]))
            else:
                width = self.bags[column].shape[1] if column in self.bags else len(self.levels[column])
                mean += [0.0] * width
                scale += [1.0] * width
        return {"mean": mean, "scale": scale}


def _present(values: Array) -> Array:
    """Without those that are missing."""
    present: Array = values[~np.isnan(values)]
    return present


def _refuse_unseen(sample: Array, names: Sequence[str]) -> None:
    unseen = np.isnan(sample).all(axis=0)
    if unseen.any():
        raise DataError(
            f"column {names[int(unseen.argmax())]!r} has no value in the {len(sample)} records of the public sample, "
            f"so nothing can be filled in; raise public_fraction, or leave the column out"
        )


def _statistics(columns: Array, names: Sequence[str]) -> tuple[Array, Array]:
    """Mean and standard deviation of each column; mean and 1 where it does not vary.

    Raises:
        DataError: one of them is no finite number, or underflows.
    """
    lacking = bool(np.isnan(columns).any())
    low, high = np.nanmin(columns, axis=0, initial=np.inf), np.nanmax(columns, axis=0, initial=-np.inf)
    varies = high > low
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        means = np.nanmean(columns, axis=0) if lacking else columns.mean(axis=0)
        deviations = np.nanstd(columns, axis=0) if lacking else columns.std(axis=0)
    mean = np.where(varies, means, high if lacking else columns[0])
    scale = np.where(varies, deviations, 1.0)
    wrong = ~(np.isfinite(mean) & np.isfinite(scale) & (scale > 0))
    if wrong.any():
        place = int(wrong.argmax())
        raise DataError(
            f"column {names[place]!r} goes from {low[place]:g} to {high[place]:g}, and its standard deviation is "
            f"{scale[place]:g} in double precision; give it in another unit, or take its logarithm"
        )
    return mean, scale


def _encoded_names(
    names: tuple[str, ...],
    levels: dict[int, Array],
    called: Mapping[int, tuple[str, ...]],
    words: Mapping[int, tuple[str, ...]],
) -> tuple[str, ...]:
    encoded: list[str] = []
    for column, name in enumerate(names):
        if column in words:
            encoded += [f"{name}:{word}" for word in words[column]]
            continue
        if column not in levels:
            encoded.append(name)
            continue
        given = called.get(column, ())
        encoded += [f"{name}={given[int(level)] if given else format(level, 'g')}" for level in levels[column]]
    return tuple(encoded)
