"""The population: clients' records, the public sample and the test data, as memory-mapped arrays."""

import json
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from simulator.world.records import Array
from simulator.world.specs import Schema

_ARRAYS = (
    "train_x", "train_y", "offsets", "public_x", "public_y", "test_x", "test_y", "box_low", "box_high",
)  # fmt: skip


@dataclass(frozen=True)
class Population:
    """Everything drawn from (data configuration, seed). Client, public and test records are disjoint.

    Attributes:
        schema: public form of the data.
        train_x: ``[n, d]`` float32, the clients' records, sorted by client.
        train_y: ``[n]`` int64 classes or float32 targets.
        offsets: ``[clients + 1]`` int64; client k owns rows ``offsets[k]:offsets[k + 1]``.
        public_x, public_y: the public sample.
        test_x, test_y: the test data; may be empty.
        box_low, box_high: ``[d]`` float64, the range of each input column: [0, 1] for images, the public sample's
            range for tables.
        preprocessing: statistics of the PUBLIC sample that standardised the columns, for the record.
    """

    schema: Schema
    train_x: Array
    train_y: Array
    offsets: Array
    public_x: Array
    public_y: Array
    test_x: Array
    test_y: Array
    box_low: Array
    box_high: Array
    preprocessing: dict[str, list[float]]

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self.offsets) - 1

    @cached_property
    def sizes(self) -> Array:
        """``[clients]`` records of each client before any deletion."""
        return np.diff(self.offsets)

    def rows(self, client: int, records: tuple[int, ...] | None = None) -> Array:
        """Rows of ``train_x`` of one client: all, or those at local indices ``records``."""
        start, stop = int(self.offsets[client]), int(self.offsets[client + 1])
        if records is None:
            return np.arange(start, stop)
        return start + np.asarray(records, dtype=np.int64)

    def save(self, directory: Path) -> Path:
        """Write the arrays for memory-mapping; the directory appears whole or not at all.

        A directory that already exists is kept: its name stands for its content.
        """
        if directory.exists():
            return directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        draft = directory.with_name(f".{directory.name}.{os.getpid()}")
        draft.mkdir()
        for name in _ARRAYS:
            np.save(draft / f"{name}.npy", getattr(self, name), allow_pickle=False)
        about = {"schema": self.schema.model_dump(mode="json"), "preprocessing": self.preprocessing}
        (draft / "population.json").write_text(json.dumps(about))
        try:
            draft.rename(directory)
        except OSError:  # another process finished the same directory first
            shutil.rmtree(draft)
        return directory

    @classmethod
    def open(cls, directory: Path) -> "Population":
        """Memory-map what ``save`` wrote.

        Copy-on-write: torch takes no read-only arrays, and no write reaches the disk.
        """
        about = json.loads((directory / "population.json").read_text())
        arrays = {name: np.load(directory / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in _ARRAYS}
        arrays["offsets"] = np.array(arrays["offsets"])  # small, and asked for all the time
        schema = Schema.model_validate(about["schema"])
        return cls(schema=schema, preprocessing=about["preprocessing"], **arrays)
