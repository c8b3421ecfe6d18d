"""What a measure of reconstructions is, and the geometry that several share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Schema

CANDIDATES = 1000
"""Records among which the true one is looked for, itself included."""


@dataclass(frozen=True)
class Pairs:
    """Targets in order, each beside the answer matched with it; all arrays have one row a target.

    Attributes:
        case: ``[t]`` index of the deletion.
        target: ``[t]`` position among the deletion's records.
        x, y: ``[t, d]`` and ``[t]`` of the deleted records, float64.
        found_x, found_y: the same of the answers.
    """

    case: Array
    target: Array
    x: Array
    y: Array
    found_x: Array
    found_y: Array


@dataclass(frozen=True)
class Background:
    """What measures may use beside the pairs.

    Attributes:
        mean: ``[d]`` of the public sample.
        schema: form and task of the data.
        candidates: ``[c, d]`` records held out from training and from the attack; may be empty.
        rng: of scoring; built-in measures draw from it before others do.
        class_means: ``[classes, d]`` of the public sample; its mean for a class of which it has no record. None in
            regression, and where nobody has taken them.
    """

    mean: Array
    schema: Schema
    candidates: Array
    rng: np.random.Generator
    class_means: Array | None = None


def always(background: Background) -> bool:
    """Applies to all data."""
    return True


@dataclass(frozen=True)
class Measure:
    """A measure of reconstructions.

    Attributes:
        values: ``[t]`` of each pair.
        applies: whether it means anything for these data; its column is absent where it does not.
        figures: entries of ``results.json`` from an attack's scores, a row for each target; None for the median, the
            10th and 90th percentile and the median's interval, under the measure's name.
    """

    values: Callable[[Pairs, Background], Array]
    applies: Callable[[Background], bool] = always
    figures: Callable[[pd.DataFrame], Mapping[str, Any]] | None = None


def is_image(background: Background) -> bool:
    """Whether records are images."""
    return background.schema.is_image


def unit(x: Array) -> Array:
    """Rows at length 1; a row of zeros stays, so that its cosine with anything is 0."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    scaled: Array = np.divide(x, norm, out=np.zeros(x.shape), where=norm > 0)
    return scaled


def centred(x: Array, mean: Array) -> Array:
    """Rows less a mean ``[d]``, or one for each row, at length 1; the mean itself, up to rounding, becomes zero."""
    off = x - mean
    size = np.linalg.norm(mean, axis=-1) + np.linalg.norm(x, axis=1)
    off[np.linalg.norm(off, axis=1) <= 1e-12 * size] = 0.0
    return unit(off)


def on_unit_range(pairs: Pairs, schema: Schema) -> tuple[Array, Array]:
    """Deleted and reconstructed images ``[t, channels, height, width]``, clipped to [0, 1]."""
    true, guess = (np.clip(images, 0.0, 1.0).reshape(-1, *schema.shape) for images in (pairs.x, pairs.found_x))
    return true, guess
