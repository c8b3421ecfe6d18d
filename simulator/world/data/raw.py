"""Records as their source has them, and the sentences for those that cannot be used."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from palimpsest.simulator.world.data import images
from palimpsest.simulator.world.data.missing import REMEDY, handled, only
from palimpsest.simulator.world.data.reading import Note, Reading
from palimpsest.simulator.world.data.splits import of_words
from palimpsest.simulator.world.data.targets import FEW, amounts
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array


@dataclass(frozen=True)
class Raw:
    """Records as their source has them.

    Attributes:
        name: of the source.
        x: images ``[n, H, W]`` or ``[n, H, W, C]``, uint8 or float32 in [0, 1]; or a table ``[n, d]`` float64, NaN
            where a value is to be filled in.
        y: ``[n]`` int64 classes from 0, or float32 targets.
        client: ``[n]`` natural client ids, where the source has them.
        split: ``[n]`` 0 train, 1 test, anything else neither; where the source has it.
        categorical: ``[d]`` columns that hold codes; all False for images.
        levels: of categorical columns by position, the names of the codes 0, 1, ...; where the source names them.
        texts: categorical columns by position whose levels are free text: they become bags of words.
        notes: how the source was understood, and what of it was dropped or is to be filled in.
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
    levels: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    texts: tuple[int, ...] = ()
    notes: tuple[Note, ...] = ()

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


def checked(raw: Raw, reading: Reading | None = None) -> Raw:
    """Return the records in the types that ``Raw`` promises, or refuse them.

    Raises:
        DataError: one sentence that says what cannot be used, and what would be.
    """
    how = reading or Reading()
    x, y, n = raw.x, raw.y, len(raw.y) if raw.y.ndim else 0
    if y.ndim != 1 or n == 0:
        raise DataError(f"y has shape {list(y.shape)}; one label or target a record is needed, [n]")
    if x.ndim not in (2, 3, 4) or len(x) != n or 0 in x.shape:
        raise DataError(
            f"x has shape {list(x.shape)} beside {n} labels; "
            f"tables are [n, d], images [n, H, W] or [n, H, W, C], with as many records as labels"
        )
    columns = x.shape[1] if x.ndim == 2 else 0
    notes = list(raw.notes)
    named = _words(raw, notes)
    typed = replace(named, x=_inputs(x, notes), categorical=_categorical(raw.categorical, columns))
    typed = replace(
        typed, client=_ids(typed.client, "client", n), split=_ids(typed.split, "split", n), notes=tuple(notes)
    )
    typed = handled(_with_target(typed, how), how.missing)
    notes = list(typed.notes)
    typed = replace(typed, y=_labels(typed, how, notes), notes=tuple(notes))
    _check_names(typed, columns)
    return typed


def _inputs(x: Array, notes: list[Note]) -> Array:
    if x.dtype.kind not in "fiub":
        raise DataError(
            f"x holds {x.dtype}; numbers are needed (encode categories as integer codes, see is_categorical)"
        )
    if x.ndim == 2:
        return x.astype(np.float64)
    _check_finite("x", x, "correct them")
    return images.usable(x, notes)


def _words(raw: Raw, notes: list[Note]) -> Raw:
    """Turn text in y, client and split into codes with names."""
    coded = raw
    if raw.y.dtype.kind == "U" and not raw.class_names:
        names, codes = np.unique(raw.y, return_inverse=True)
        if len(raw.y) >= FEW and len(names) * 2 > len(raw.y):
            raise DataError(
                f"y is text with {len(names)} different values in {len(raw.y)} records; each class needs several, and "
                f"amounts are stored as numbers"
            )
        coded = replace(coded, y=codes, class_names=tuple(str(name) for name in names))
    if raw.client is not None and raw.client.dtype.kind == "U" and raw.client.shape == raw.y.shape:
        names, codes = np.unique(raw.client, return_inverse=True)
        coded = replace(coded, client=codes, site_names=tuple(str(name) for name in names))
    if raw.split is not None and raw.split.dtype.kind == "U" and raw.split.shape == raw.y.shape:
        coded = replace(coded, split=of_words("split", raw.split))
    neither = 0 if coded.split is None or coded.split.dtype.kind not in "iub" else int((coded.split > 1).sum())
    if neither and not any("neither train nor test" in note.text for note in raw.notes):
        notes.append(Note(kind="dropped", text="neither train (0) nor test (1) in split", count=neither))
    return coded


def _with_target(raw: Raw, how: Reading) -> Raw:
    """Leave out the records without a target, unless missing values are refused."""
    if raw.y.dtype.kind != "f" or how.missing == "refuse" or not np.isnan(raw.y).any():
        return raw
    kept = ~np.isnan(raw.y)
    if not kept.any():
        raise DataError("y holds no number at all")
    note = Note(kind="dropped", text="no target", count=int((~kept).sum()))
    return replace(only(raw, kept), notes=(*raw.notes, note))


def _labels(raw: Raw, how: Reading, notes: list[Note]) -> Array:
    y = raw.y
    if y.dtype.kind not in "iubf":
        raise DataError(
            f"y holds {y.dtype}; integer classes from 0 (names go to class_names) or float targets are needed"
        )
    if y.dtype.kind == "f":
        _check_finite("y", y, REMEDY)
        if how.task != "classification":
            if how.task == "auto" and not any("taken as amounts" in note.text for note in raw.notes):
                amounts(True, np.unique(y), len(y), "y", notes)
            return _targets(y)
        if (y != np.round(y)).any():
            raise DataError("y holds fractions, and data.task = 'classification' needs classes; take 'regression'")
        y = y.astype(np.int64)
    if how.task == "regression":
        if raw.class_names:
            raise DataError("y has class_names, and data.task = 'regression' needs amounts; leave one of them out")
        return _targets(y)
    if y.min() < 0:
        raise DataError(f"y holds the label {int(y.min())}; classes are counted from 0")
    if y.max() >= max(len(y), 2):
        raise DataError(
            f"y holds the label {int(y.max())} among {len(y)} records; classes are counted from 0 (for amounts, store "
            f"floats or say data.task = 'regression')"
        )
    if how.task == "auto" and not raw.class_names and amounts(False, np.unique(y), len(y), "y", notes):
        return _targets(y)
    return y.astype(np.int64)


def _targets(y: Array) -> Array:
    """As float32, which holds less than float64."""
    largest = float(np.abs(y).max())
    if largest > float(np.finfo(np.float32).max) / 2:
        raise DataError(f"y goes up to {largest:g}, more than single precision holds; give it in another unit")
    return y.astype(np.float32)


def _check_finite(key: str, values: Array, remedy: str) -> None:
    if values.dtype.kind != "f":
        return
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        where = ", ".join(str(i) for i in bad[0])
        raise DataError(f"{key} holds {len(bad)} values that are NaN or infinite, the first at [{where}]; {remedy}")


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
        raise DataError(f"{key} is {values.dtype} {list(values.shape)}; one integer or name a record is needed, [{n}]")
    return np.asarray(values, dtype=np.int64)
