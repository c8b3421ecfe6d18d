"""The updates of single clients, kept on disk round by round."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from palimpsest.simulator.world.records import Array


class UpdateStore:
    """One ``.npy`` matrix a round, a row a client, read memory-mapped: memory holds one round at most.

    Args:
        directory: for the files; created if missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._clients: list[tuple[int, ...]] = []
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def rounds(self) -> Sequence[int]:
        """The rounds kept, ascending from 0."""
        return range(len(self._clients))

    @property
    def bytes(self) -> int:
        """What lies on disk."""
        return sum(path.stat().st_size for path in self._directory.glob("*.npy"))

    def keep(self, updates: Mapping[int, Array]) -> None:
        """Append the next round's updates, ``[size]`` each; none where nobody took part."""
        rows = np.stack(list(updates.values())) if updates else np.zeros((0, 0), np.float32)
        np.save(self._path(len(self._clients)), rows, allow_pickle=False)
        self._clients.append(tuple(updates))

    def read(self, round: int) -> tuple[tuple[int, ...], Array]:
        """Return the clients of one round and their ``[clients, size]`` updates, memory-mapped."""
        clients = self._clients[round]
        rows: Array = np.load(self._path(round), mmap_mode="r" if clients else None, allow_pickle=False)
        return clients, rows

    def _path(self, round: int) -> Path:
        return self._directory / f"{round:06d}.npy"
