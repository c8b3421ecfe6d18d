"""Data sets that a program hands over instead of naming a source."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from palimpsest.simulator.world.data import hub, pictures
from palimpsest.simulator.world.data.column_kinds import read_column
from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.data.tables import suspicious
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

if TYPE_CHECKING:
    import datasets
    import pandas as pd

PREFIX = "given:"
"""Before the SHA-256 of the content, as the source's name in a scenario that was run with ``data=``."""

_GIVEN: dict[str, Raw] = {}


@dataclass(frozen=True)
class Dataset:
    """Records that a program has in memory, for ``run(scenario, data=...)``.

    Attributes:
        raw: the records as they were given; they are checked when they are used.
    """

    raw: Raw

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any,
        client: Any = None,
        split: Any = None,
        *,
        feature_names: Sequence[str] = (),
        class_names: Sequence[str] = (),
        categorical: Sequence[bool] = (),
    ) -> "Dataset":
        """Take arrays, lists, or data frames of numbers.

        Args:
            x: a table ``[n, d]`` of numbers, or a data frame, whose columns of text become categories; or images
                ``[n, H, W]`` or ``[n, H, W, C]``, uint8 or in [0, 1].
            y: ``[n]`` classes as integers from 0 or as text, or targets as floats.
            client: ``[n]`` ids or names: the natural partition.
            split: ``[n]`` words (train, test, validation), or 0 for train and 1 for test.
            feature_names: of the table's columns; those of a data frame are known.
            class_names: of the classes 0, 1, ...
            categorical: of each column, whether it holds codes of categories; those of a data frame are known.

        Raises:
            DataError: they hold what is neither number nor text, or a column of the data frame is no input.

        Example:
            >>> data = Dataset.from_arrays([[1.0, 2.0], [3.0, 4.0]], ["no", "yes"], client=["north", "south"])
            >>> data.raw.x.shape, data.raw.y.tolist(), data.raw.class_names
            ((2, 2), ['no', 'yes'], ())
        """
        if hasattr(x, "columns"):
            return cls(replace(_frame(x), **_roles(y, client, split), class_names=tuple(class_names)))
        raw = Raw("given", _array(x), **_roles(y, client, split), class_names=tuple(class_names))
        return cls(replace(raw, feature_names=tuple(feature_names), categorical=np.asarray(categorical, dtype=bool)))

    @classmethod
    def from_torch(cls, dataset: Any) -> "Dataset":
        """Read a map-style ``torch.utils.data.Dataset`` of (input, target) pairs from its first to its last.

        Inputs are tensors, arrays or PIL images of one shape; class names are its ``classes``, where it has them.

        Raises:
            DataError: it holds something else.
        """
        pairs = [dataset[k] for k in range(len(dataset))]
        if not pairs or any(not isinstance(pair, tuple | list) or len(pair) != 2 for pair in pairs):
            raise DataError("from_torch needs a data set of (input, target) pairs, and at least one of them")
        inputs = [_input(pair[0], k) for k, pair in enumerate(pairs)]
        if len({item.shape for item in inputs}) > 1:
            shapes = sorted({item.shape for item in inputs})[:2]
            raise DataError(f"from_torch: inputs have shapes {shapes[0]} and {shapes[1]}; scale them to one")
        names = tuple(str(name) for name in getattr(dataset, "classes", ()))
        return cls.from_arrays(np.stack(inputs), np.array([_scalar(y) for _, y in pairs]), class_names=names)

    @classmethod
    def from_hub(cls, dataset: "datasets.DatasetDict | datasets.Dataset") -> "Dataset":
        """Take images and classes of a data set that ``datasets`` has loaded: its splits, or one as all there is.

        Raises:
            DataError: it has not one column of images and one of classes.
        """
        import datasets

        whole = isinstance(dataset, datasets.DatasetDict)
        arrays = hub.arrays_of(dataset if whole else datasets.DatasetDict(train=dataset), "from_hub")
        split = arrays["split"] if whole and "test" in dataset else None
        return cls.from_arrays(
            arrays["x"], arrays["y"], split=split, class_names=[str(name) for name in arrays["class_names"]]
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content."""
        raw, digest = self.raw, hashlib.sha256()
        for part in (raw.x, raw.y, raw.client, raw.split, raw.categorical):
            if part is None:
                digest.update(b"none")
                continue
            digest.update(f"{part.dtype.str} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(repr((raw.class_names, raw.feature_names, sorted(raw.levels.items()))).encode())
        return digest.hexdigest()

    def remember(self) -> str:
        """Keep the records for this process, and return the name of the source that they are then."""
        _GIVEN[self.digest] = self.raw
        return PREFIX + self.digest


def recall(source: str) -> Raw:
    """The records that ``remember`` gave this name.

    Raises:
        DataError: this process does not have them.
    """
    raw = _GIVEN.get(source.removeprefix(PREFIX))
    if raw is None:
        raise DataError(
            f"{source[:18]}... stands for data that a Python program handed over; give them again by "
            f"run(scenario, data=...) or resume(directory, data=...), or write them to an .npz file and name that"
        )
    return raw


def _roles(y: Any, client: Any, split: Any) -> dict[str, Any]:
    given = {"y": y, "client": client, "split": split}
    return {role: None if values is None else _array(values) for role, values in given.items()}


def _frame(frame: "pd.DataFrame") -> Raw:
    """The inputs of a data frame; the target is put in afterwards."""
    columns = [read_column(str(name), cells, typed=True) for name, cells in frame.items()]
    notes = [note for column in columns for note in (*column.notes, *suspicious(column))]
    return Raw(
        "given",
        np.column_stack([column.values for column in columns]),
        np.zeros(0),
        feature_names=tuple(column.name for column in columns),
        categorical=np.array([column.kind == "category" for column in columns]),
        levels={place: column.levels for place, column in enumerate(columns) if column.levels},
        notes=tuple(notes),
    )


def _array(values: Any) -> Array:
    """As a plain array; objects become text where all of them are, and booleans stay what they are."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.ravel()):
        return array.astype(str)
    if array.dtype.kind == "O":
        kinds = sorted({type(value).__name__ for value in array.ravel()})
        raise DataError(
            f"an array holds {', '.join(kinds)}; numbers are needed, or text for y, client and split (encode "
            f"categories of x as codes and say categorical=...)"
        )
    return array


def _input(given: Any, place: int) -> Array:
    from PIL import Image

    if isinstance(given, Image.Image):
        return pictures.pixels(given, f"record {place}")
    return _array(given)


def _scalar(target: Any) -> Any:
    array = _array(target)
    if array.size != 1:
        raise DataError(f"from_torch: a target has shape {list(array.shape)}; one class or number a record is needed")
    return array.reshape(()).item()
