"""Records that a user has in one npz file, as his own model reads them: nothing is scaled, split or encoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palimpsest.simulator.world.data.archives import read_npz
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Schema

_CHANNELS = (1, 3)
_NAMES = ("class_names", "feature_names")


@dataclass(frozen=True)
class PublicSample:
    """Records like the private ones, that everybody may have.

    Attributes:
        schema: form of the data.
        x: ``[m, d]`` float64 flat records; images channels first, as torch has them.
        y: ``[m]`` int64 classes or float64 targets.
        box_low, box_high: ``[d]`` float64 range of each column: of images one range for all pixels.
    """

    schema: Schema
    x: Array
    y: Array
    box_low: Array
    box_high: Array


def read_public(path: Path) -> PublicSample:
    """Read ``x``, ``y`` and, where they are there, ``class_names`` and ``feature_names`` of an npz file.

    ``x`` is a table ``[m, d]``, or images ``[m, H, W]``, ``[m, C, H, W]`` or ``[m, H, W, C]`` with one or three
    channels; uint8 is divided by 255, as torchvision does. Integers in ``y`` are classes, floats are targets.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    return sample_of(read_npz(path), str(path))


def sample_of(arrays: Mapping[str, Array], where: str) -> PublicSample:
    """Check arrays in memory as ``read_public`` does those of a file.

    Args:
        arrays: ``x``, ``y`` and, where they are there, ``class_names`` and ``feature_names``.
        where: they come from, for errors.

    Raises:
        DataError: as for ``read_public``.
    """
    x, y, shape = _records(arrays, where)
    classes, features = (tuple(str(name) for name in arrays.get(key, ())) for key in _NAMES)
    task, outputs = ("regression", 1) if y.dtype.kind == "f" else ("classification", max(int(y.max()) + 1, 2))
    if classes and len(classes) < outputs:
        raise DataError(f"{where} has {len(classes)} class_names and the class {outputs - 1}; name every class")
    if features and len(features) != x.shape[1]:
        raise DataError(f"{where} has {len(features)} feature_names for {x.shape[1]} columns; they must be as many")
    schema = Schema(
        name=Path(where).stem,
        task="regression" if task == "regression" else "classification",
        shape=shape,
        outputs=len(classes) or outputs,
        class_names=classes or (() if task == "regression" else tuple(map(str, range(outputs)))),
        feature_names=features,
    )
    low, high = x.min(axis=0), x.max(axis=0)
    if schema.is_image:
        inside = x.min() >= 0.0 and x.max() <= 1.0
        low, high = (np.full(x.shape[1], end) for end in ((0.0, 1.0) if inside else (x.min(), x.max())))
    return PublicSample(schema, x, y, low, high)


def read_like(path: Path, public: PublicSample) -> tuple[Array, Array]:
    """Read records of the same form as a public sample: ``[k, d]`` and ``[k]``.

    Raises:
        DataError: the file cannot be read, or its records have another form.
    """
    x, y, shape = _records(read_npz(path), str(path))
    schema = public.schema
    if shape != schema.shape:
        raise DataError(f"{path} has records of shape {list(shape)}; the public ones have {list(schema.shape)}")
    if y.dtype.kind != public.y.dtype.kind:
        raise DataError(f"{path}: y is {y.dtype}, and that of the public records {public.y.dtype}; they must agree")
    if schema.task == "classification" and y.max() >= schema.outputs:
        raise DataError(f"{path}: y holds the class {y.max()}; classes are 0 to {schema.outputs - 1}")
    return x, y


def _records(arrays: Mapping[str, Array], where: str) -> tuple[Array, Array, tuple[int, ...]]:
    """Flat records, labels, and the shape of one record."""
    for key in ("x", "y"):
        if key not in arrays:
            raise DataError(f"{where} holds {', '.join(arrays) or 'nothing'}; x and y must be among it")
    x, y = np.asarray(arrays["x"]), np.asarray(arrays["y"])
    if x.dtype.kind not in "biuf" or x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise DataError(
            f"{where}: x is {x.dtype} of shape {list(x.shape)}; a table [m, d] or images [m, H, W] or [m, C, H, W] of "
            f"numbers are needed"
        )
    if y.shape != (len(x),) or y.dtype.kind not in "iuf":
        raise DataError(
            f"{where}: y is {y.dtype} of shape {list(y.shape)}; [{len(x)}] classes as integers from 0, or targets as "
            f"floats, are needed, one for each record of x"
        )
    if y.dtype.kind != "f" and y.min() < 0:
        raise DataError(f"{where}: y holds the class {y.min()}; classes are integers from 0")
    values = _channels_first(x, where).astype(np.float64) / (255.0 if x.dtype == np.uint8 and x.ndim > 2 else 1.0)
    if not (np.isfinite(values).all() and np.isfinite(y).all()):
        raise DataError(f"{where} holds a NaN or an infinity; take these records out, or fill them in")
    labels = y.astype(np.float64 if y.dtype.kind == "f" else np.int64)
    return values.reshape(len(x), -1), labels, values.shape[1:]


def _channels_first(x: Array, where: str) -> Array:
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 2 or x.shape[1] in _CHANNELS:
        return x
    if x.shape[3] not in _CHANNELS:
        raise DataError(f"{where}: x has shape {list(x.shape)}; images must have 1 or 3 channels, [m, C, H, W]")
    return np.moveaxis(x, 3, 1)
