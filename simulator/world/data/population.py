"""The population: clients' records, the public sample and the test data."""

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from palimpsest.simulator.world.data.preview import Preview
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Schema

_SHARED = ("public_x", "public_y", "test_x", "test_y", "box_low", "box_high")
_ABOUT = "population.json"


@dataclass(frozen=True, kw_only=True)
class AbstractPopulation(ABC):
    """Everything drawn from (data configuration, seed). Client, public and test records are disjoint.

    The clients' records have row numbers, client after client; where they come from is up to the subclass.

    Attributes:
        schema: public form of the data.
        public_x, public_y: the public sample.
        test_x, test_y: the test data; may be empty.
        box_low, box_high: ``[d]`` float64, the range of each input column: [0, 1] for images, the public sample's
            range for tables.
        preprocessing: statistics of the PUBLIC sample that standardised the columns, for the record.
        preview: what was understood of the source, for the user; None where the records have none.
        ARRAYS: names of the fields that are arrays, written and memory-mapped file by file.
        DRAWN: whether clients' records are drawn where they are read, into memory of whoever reads them.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = _SHARED
    DRAWN: ClassVar[bool] = False

    schema: Schema
    public_x: Array
    public_y: Array
    test_x: Array
    test_y: Array
    box_low: Array
    box_high: Array
    preprocessing: dict[str, list[float]]
    preview: Preview | None = None

    @property
    @abstractmethod
    def sizes(self) -> Array:
        """``[clients]`` records of each client before any deletion."""

    @abstractmethod
    def rows(self, client: int, records: tuple[int, ...] | None = None) -> Array:
        """Row numbers of one client: all, or those at local indices ``records``."""

    @abstractmethod
    def take(self, rows: Array) -> tuple[Array, Array]:
        """Records at some rows: ``[n, d]`` float32, and their ``[n]`` int64 classes or float32 targets."""

    @abstractmethod
    def gather(self, clients: Sequence[int]) -> tuple[Array, Array, dict[int, int]]:
        """Arrays x and y that hold at least these clients' records, and by client where its first record is."""

    @abstractmethod
    def labels(self) -> Array:
        """``[records]`` classes or targets of all clients' records."""

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self.sizes)

    @cached_property
    def records(self) -> int:
        """Number of all clients' records."""
        return int(self.sizes.sum())

    def about(self) -> dict[str, Any]:
        """What is no array, as plain values."""
        preview = None if self.preview is None else self.preview.model_dump(mode="json")
        return {"schema": self.schema.model_dump(mode="json"), "preprocessing": self.preprocessing, "preview": preview}

    @classmethod
    def restored(cls, about: dict[str, Any], arrays: dict[str, Array]) -> Self:
        """Inverse of ``about``, given the arrays."""
        preview = about["preview"] if about["preview"] is None else Preview.model_validate(about["preview"])
        return cls(**{**about, "schema": Schema.model_validate(about["schema"]), "preview": preview, **arrays})

    def save(self, directory: Path) -> Path:
        """Write the arrays for memory-mapping; the directory appears whole or not at all.

        A directory that already exists is kept: its name stands for its content.
        """
        if directory.exists():
            return directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        draft = directory.with_name(f".{directory.name}.{os.getpid()}")
        draft.mkdir()
        for name in self.ARRAYS:
            np.save(draft / f"{name}.npy", getattr(self, name), allow_pickle=False)
        (draft / _ABOUT).write_text(json.dumps(self.about()))
        try:
            draft.rename(directory)
        except OSError:
            shutil.rmtree(draft)
            if not directory.exists():
                raise  # else another process finished the same directory first
        return directory

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Memory-map what ``save`` wrote.

        Copy-on-write: torch takes no read-only arrays, and no write reaches the disk.
        """
        about = json.loads((directory / _ABOUT).read_text())
        return cls.restored(
            about, {name: np.load(directory / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in cls.ARRAYS}
        )


@dataclass(frozen=True, kw_only=True)
class Population(AbstractPopulation):
    """A population whose records are stored.

    Attributes:
        train_x: ``[n, d]`` float32, the clients' records, sorted by client.
        train_y: ``[n]`` int64 classes or float32 targets.
        offsets: ``[clients + 1]`` int64; client k owns rows ``offsets[k]:offsets[k + 1]``.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ("train_x", "train_y", "offsets", *_SHARED)

    train_x: Array
    train_y: Array
    offsets: Array

    @classmethod
    def restored(cls, about: dict[str, Any], arrays: dict[str, Array]) -> Self:
        """See ``AbstractPopulation.restored``."""
        return super().restored(about, arrays | {"offsets": np.array(arrays["offsets"])})  # asked for all the time

    @cached_property
    def sizes(self) -> Array:
        """``[clients]`` records of each client before any deletion."""
        return np.diff(self.offsets)

    def rows(self, client: int, records: tuple[int, ...] | None = None) -> Array:
        """See ``AbstractPopulation.rows``."""
        start, stop = int(self.offsets[client]), int(self.offsets[client + 1])
        if records is None:
            return np.arange(start, stop)
        return start + np.asarray(records, dtype=np.int64)

    def take(self, rows: Array) -> tuple[Array, Array]:
        """See ``AbstractPopulation.take``."""
        return self.train_x[rows], self.train_y[rows]

    def gather(self, clients: Sequence[int]) -> tuple[Array, Array, dict[int, int]]:
        """See ``AbstractPopulation.gather``; nothing is copied."""
        return self.train_x, self.train_y, {client: int(self.offsets[client]) for client in clients}

    def labels(self) -> Array:
        """See ``AbstractPopulation.labels``."""
        return np.asarray(self.train_y)
