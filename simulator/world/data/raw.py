"""Records as their source has them, and the sentences for those that cannot be used."""

from dataclasses import dataclass, field, replace

import numpy as np

from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array


@dataclass(frozen=True)
class Raw:
    """Records as their source has them.

    Attributes:
        name: of the source.
        x: images ``[n, H, W]`` or ``[n, H, W, C]``, uint8 or float32 in [0, 1]; or a table ``[n, d]`` float64.
        y: ``[n]`` int64 classes from 0, or float32 targets.
        client: ``[n]`` natural client ids, where the source has them.
        split: ``[n]`` 0 train, 1 test, anything else neither; where the source has it.
        categorical: ``[d]`` columns that hold codes; all False for images.
    """

    name: str
    x: Array
    y: Array
    client: Array | None = None
    split: Array | None = None
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    site_names: tuple[str, ...] = ()
    categorical: Array = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @property
    def is_image(self) -> bool:
        """Whether records are images."""
        return bool(self.x.ndim > 2)

    @property
    def is_regression(self) -> bool:
        """Whether ``y`` holds targets."""
        return bool(self.y.dtype.kind == "f")

    @property
    def classes(self) -> int:
        """Number of classes; 1 for regression."""
        return 1 if self.is_regression else max(len(self.class_names), int(self.y.max()) + 1)


def checked(raw: Raw) -> Raw:
    """Return the records in the types that ``Raw`` promises, or refuse them."""
    x, y, n = raw.x, raw.y, len(raw.y) if raw.y.ndim else 0
    if y.ndim != 1 or n == 0:
        raise DataError(f"y has shape {list(y.shape)}; one label or target a record is needed, [n]")
    if x.ndim not in (2, 3, 4) or len(x) != n or 0 in x.shape:
        raise DataError(
            f"x has shape {list(x.shape)} beside {n} labels; "
            f"tables are [n, d], images [n, H, W] or [n, H, W, C], with as many records as labels"
        )
    columns = x.shape[1] if x.ndim == 2 else 0
    categorical = _categorical(raw.categorical, columns)
    typed = replace(raw, x=_inputs(x), y=_labels(y), categorical=categorical)
    _check_names(typed, columns)
    return replace(typed, client=_ids(raw.client, "client", n), split=_ids(raw.split, "split", n))


def _inputs(x: Array) -> Array:
    if x.dtype == np.uint8 and x.ndim > 2:
        return x
    if x.dtype.kind not in "fiub":
        raise DataError(
            f"x holds {x.dtype}; numbers are needed (encode categories as integer codes, see is_categorical)"
        )
    _check_finite("x", x)
    if x.ndim == 2:
        return x.astype(np.float64)
    low, high = float(x.min()), float(x.max())
    if low < 0.0 or high > 1.0:
        raise DataError(
            f"x holds images of {x.dtype} from {low:g} to {high:g}; uint8 in 0..255 or floats in [0, 1] are needed"
        )
    return x.astype(np.float32)


def _labels(y: Array) -> Array:
    if y.dtype.kind == "f":
        _check_finite("y", y)
        return y.astype(np.float32)
    if y.dtype.kind not in "iub":
        raise DataError(
            f"y holds {y.dtype}; integer classes from 0 (names go to class_names) or float targets are needed"
        )
    if y.min() < 0:
        raise DataError(f"y holds the label {int(y.min())}; classes are counted from 0")
    if y.max() >= max(len(y), 2):
        raise DataError(f"y holds the label {int(y.max())} among {len(y)} records; classes are counted from 0")
    return y.astype(np.int64)


def _check_finite(key: str, values: Array) -> None:
    if values.dtype.kind != "f":
        return
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        where = ", ".join(str(i) for i in bad[0])
        raise DataError(
            f"{key} holds {len(bad)} values that are NaN or infinite, the first at [{where}]; remove or impute them"
        )


def _check_names(raw: Raw, columns: int) -> None:
    if raw.class_names and raw.is_regression:
        raise DataError("y holds float targets beside class_names; store classes as integers, or leave class_names out")
    if raw.class_names and raw.y.max() >= len(raw.class_names):
        raise DataError(
            f"y holds the label {int(raw.y.max())}, out of range for {len(raw.class_names)} class_names; "
            f"labels go from 0 to {len(raw.class_names) - 1}"
        )
    if raw.feature_names and columns and len(raw.feature_names) != columns:
        raise DataError(
            f"there are {len(raw.feature_names)} feature_names for {columns} columns of x; give one a column"
        )


def _categorical(marks: Array, columns: int) -> Array:
    if len(marks) == 0:
        return np.zeros(columns, dtype=bool)
    if marks.dtype != bool or marks.shape != (columns,):
        raise DataError(
            f"is_categorical is {marks.dtype} {list(marks.shape)}; one boolean a column of x is needed, [{columns}]"
        )
    return marks


def _ids(values: Array | None, key: str, n: int) -> Array | None:
    if values is None:
        return None
    if values.shape != (n,) or values.dtype.kind not in "iub":
        raise DataError(f"{key} is {values.dtype} {list(values.shape)}; one integer a record is needed, [{n}]")
    return np.asarray(values, dtype=np.int64)
