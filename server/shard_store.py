"""The models of a training in shards, round by round."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.records import Array, Params


class ShardStore:
    """A ``[shards, size]`` matrix for every round: on disk, or in memory where a copy of the store is changed.

    Args:
        directory: for the matrices, as ``.npy`` files that are read memory-mapped; created if missing.
            None: they stay in memory.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._rounds: list[Path | Array] = []
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        """Rounds kept, the initial models included."""
        return len(self._rounds)

    @property
    def bytes(self) -> int:
        """What it takes, on disk and in memory."""
        return sum(kept.stat().st_size if isinstance(kept, Path) else kept.nbytes for kept in self._rounds)

    def copy(self, rounds: int) -> "ShardStore":
        """The first so many rounds, in a store of its own: to change it leaves this one as it is."""
        store = ShardStore()
        store._rounds = self._rounds[:rounds]
        return store

    def append(self, models: Sequence[Params]) -> None:
        """Keep the next round's models, one a shard."""
        rows = np.stack([flat(model) for model in models])
        if self._directory is None:
            self._rounds.append(rows)
            return
        path = self._directory / f"{len(self._rounds):06d}.npy"
        np.save(path, rows, allow_pickle=False)
        self._rounds.append(path)

    def models(self, round: int, like: Params) -> list[Params]:
        """The models of all shards after so many rounds.

        Args:
            round: how many; -1 for the newest.
            like: a model with the names and shapes of the parameters.
        """
        return [unflat(row, like) for row in self._rows(round)]

    def replace(self, round: int, shard: int, model: Params) -> None:
        """Put another model of one shard in the place of its model after so many rounds; files are left alone."""
        rows = np.array(self._rows(round))
        rows[shard] = flat(model)
        self._rounds[round] = rows

    def cut(self, round: int) -> None:
        """Drop what was kept after so many rounds, and after more."""
        del self._rounds[round:]

    def _rows(self, round: int) -> Array:
        kept = self._rounds[round]
        rows: Array = np.load(kept, mmap_mode="r", allow_pickle=False) if isinstance(kept, Path) else kept
        return rows
