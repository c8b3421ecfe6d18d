"""The updates of single clients, kept on disk round by round."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from palimpsest.simulator.world.records import Array

_LEVEL = 1
"""Of zlib: the highest one gains a hundredth, and takes several times as long."""


class UpdateStore:
    """One matrix a round, a row a client, in the dtype of the updates: memory holds one round at most.

    As a rule a ``.npy`` file that is read memory-mapped. Compressed, without loss, it is read into memory as a whole;
    the first bytes of all numbers come first, then the second ones, and so on: signs and exponents are alike, and so
    are the zeros of what no record touches.

    Args:
        directory: for the files; created if missing.
        compressed: whether to trade processor time for disk.
    """

    def __init__(self, directory: Path, compressed: bool = False) -> None:
        self._directory = directory
        self._compressed = compressed
        self._clients: list[tuple[int, ...]] = []
        self._dtypes: list[str] = []
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def rounds(self) -> Sequence[int]:
        """The rounds kept, ascending from 0."""
        return range(len(self._clients))

    @property
    def bytes(self) -> int:
        """What lies on disk."""
        return sum(self._path(round).stat().st_size for round in self.rounds)

    def keep(self, updates: Mapping[int, Array]) -> None:
        """Append the next round's updates, ``[size]`` each; none where nobody took part."""
        rows = np.stack(list(updates.values())) if updates else np.zeros((0, 0), np.float32)
        place = self._path(len(self._clients))
        if self._compressed:
            place.write_bytes(_packed(rows))
        else:
            np.save(place, rows, allow_pickle=False)
        self._clients.append(tuple(updates))
        self._dtypes.append(rows.dtype.str)

    def read(self, round: int) -> tuple[tuple[int, ...], Array]:
        """Return the clients of one round and their ``[clients, size]`` updates, memory-mapped if not compressed."""
        clients, place = self._clients[round], self._path(round)
        if self._compressed:
            return clients, _unpacked(place.read_bytes(), self._dtypes[round], len(clients))
        rows: Array = np.load(place, mmap_mode="r" if clients else None, allow_pickle=False)
        return clients, rows

    def _path(self, round: int) -> Path:
        return self._directory / f"{round:06d}.{'zlib' if self._compressed else 'npy'}"


def _packed(rows: Array) -> bytes:
    """All first bytes, all second bytes, and so on, compressed."""
    each = np.ascontiguousarray(rows).view(np.uint8).reshape(-1, rows.dtype.itemsize)
    return zlib.compress(each.T.tobytes(), _LEVEL)


def _unpacked(packed: bytes, dtype: str, clients: int) -> Array:
    """Inverse of ``_packed``."""
    each = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(np.dtype(dtype).itemsize, -1)
    rows: Array = np.ascontiguousarray(each.T).view(dtype).reshape(clients, -1 if clients else 0)
    return rows
