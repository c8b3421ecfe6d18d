"""Archives of arrays: npz files, sparse matrices among them."""

import zipfile
from pathlib import Path

import numpy as np

from palimpsest.simulator.world import machine
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

_COPIES = 2
"""Of the arrays, at least: as they are read, and as clients hold them."""
_MOST_BYTES = 8 * 10**9
"""Beyond so many bytes, a sparse matrix is not written out."""


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of a file, pickles refused; a matrix of ``scipy.sparse.save_npz`` becomes ``x``.

    Raises:
        DataError: it cannot be read, or a sparse matrix has no labels beside it.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path} is no npz file; write it with numpy.savez_compressed")
        _check_room(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        return _dense(path, arrays) if {"format", "shape", "data"} <= arrays.keys() else arrays
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged archive fails in as many ways as it has bytes
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} holds Python objects (a pickle), which are never loaded; store plain arrays, and text as "
                f"numpy.array([...], dtype=str)"
            ) from None
        raise DataError(f"{path} is damaged and cannot be read: {error}") from error


def _check_room(path: Path) -> None:
    """Refuse what would not fit into memory, before any of it is unpacked: a small file may hold very much of nothing.

    Raises:
        DataError: says how much it is.
    """
    with zipfile.ZipFile(path) as archive:
        sizes = {part.filename.removesuffix(".npy"): part.file_size for part in archive.infolist()}
    total, there = sum(sizes.values()), machine.memory()
    if _COPIES * total > there:
        largest = max(sizes, key=lambda name: sizes[name])
        raise DataError(
            f"{path} takes {machine.shown(total)} unpacked, most of it the array {largest!r}, and this machine has "
            f"{machine.shown(there)}: keep fewer records, or smaller ones"
        )


_SPARSE = ("format", "shape", "data", "indices", "indptr", "row", "col", "offsets", "_is_array")


def _dense(path: Path, arrays: dict[str, Array]) -> dict[str, Array]:
    """The matrix written out; what else the file holds stays as it is."""
    import scipy.sparse

    if "y" not in arrays:
        raise DataError(
            f"{path} holds a sparse matrix and no labels; put them into the same file: "
            f"numpy.savez_compressed(PATH, y=y, **numpy.load({path.name!r}))"
        )
    rows, columns = (int(side) for side in arrays["shape"])
    if rows * columns * 8 > _MOST_BYTES:
        raise DataError(
            f"{path} holds a sparse matrix of {rows} x {columns}, which takes {rows * columns * 8 / 1e9:.0f} GB "
            f"written out; choose fewer columns, such as those that vary most, or hash them"
        )
    matrix = scipy.sparse.load_npz(path)
    return {key: values for key, values in arrays.items() if key not in _SPARSE} | {"x": matrix.toarray()}
