"""From raw records to the flat rows that models read; all statistics come from the public sample."""

import math
from dataclasses import dataclass

import numpy as np

from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.records import Array


@dataclass(frozen=True)
class Encoder:
    """Encodes records: images to [0, 1], numeric columns standardised, categorical ones one-hot.

    Attributes:
        shape: of an encoded record, as in ``Schema``.
        levels: for each categorical column the codes of the public sample, ascending; a code that is not among them
            becomes zeros, as a level known only from private records would tell about them.
        mean, scale: ``[columns]`` of the numeric columns; scale is 1 where the public sample does not vary.
        names: of the encoded columns; empty for images.
    """

    shape: tuple[int, ...]
    numeric: Array
    levels: dict[int, Array]
    mean: Array
    scale: Array
    names: tuple[str, ...] = ()

    @classmethod
    def fit(cls, raw: Raw, public: Array) -> "Encoder":
        """Take everything that has to be estimated from the public rows."""
        nothing = np.zeros(0)
        if raw.is_image:
            height, width, *channels = raw.x.shape[1:]
            return cls((channels[0] if channels else 1, height, width), nothing, {}, nothing, nothing)
        sample = raw.x[public]
        numeric = np.flatnonzero(~raw.categorical)
        levels = {int(column): np.unique(sample[:, column]) for column in np.flatnonzero(raw.categorical)}
        columns = sample[:, numeric]
        varies = columns.max(axis=0) > columns.min(axis=0)
        mean = np.where(varies, columns.mean(axis=0), columns[0])
        scale = np.where(varies, columns.std(axis=0), 1.0)
        names = raw.feature_names or tuple(f"x{column}" for column in range(raw.x.shape[1]))
        encoded = _encoded_names(names, levels)
        return cls((len(encoded),), numeric, levels, mean, scale, encoded)

    def __call__(self, x: Array) -> Array:
        """``[n, ...]`` raw to ``[n, d]`` float32; one-hot columns stand where the categorical one stood."""
        if len(self.shape) == 3:
            images = x if x.ndim == 3 else np.moveaxis(x, -1, 1)
            flat = images.reshape(len(x), math.prod(self.shape)).astype(np.float32)
            return flat / np.float32(255.0) if x.dtype == np.uint8 else flat
        scaled = np.zeros(x.shape)
        scaled[:, self.numeric] = (x[:, self.numeric] - self.mean) / self.scale
        parts = [
            x[:, [column]] == self.levels[column] if column in self.levels else scaled[:, [column]]
            for column in range(x.shape[1])
        ]
        encoded: Array = np.concatenate(parts, axis=1).astype(np.float32)
        return encoded

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
        for column in range(len(self.numeric) + len(self.levels)):
            if column in place:
                mean.append(float(self.mean[place[column]]))
                scale.append(float(self.scale[place[column]]))
            else:
                mean += [0.0] * len(self.levels[column])
                scale += [1.0] * len(self.levels[column])
        return {"mean": mean, "scale": scale}


def _encoded_names(names: tuple[str, ...], levels: dict[int, Array]) -> tuple[str, ...]:
    encoded: list[str] = []
    for column, name in enumerate(names):
        encoded += [f"{name}={level:g}" for level in levels[column]] if column in levels else [name]
    return tuple(encoded)
