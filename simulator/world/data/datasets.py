"""Where records come from: the data sets that the dependencies ship, files, and folders of images."""

import hashlib
import zipfile
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from palimpsest.simulator.world.data import hub, pictures
from palimpsest.simulator.world.data.raw import Raw, checked
from palimpsest.simulator.world.data.sources import cards
from palimpsest.simulator.world.data.tables import SUFFIXES, read_table
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

__all__ = ["DataError", "Raw", "check_source", "load_source", "version_of"]

MNIST_LIKE = "synthetic:mnist-like"
"""A population of any size that is made where it is read: ``world.synthetic``."""


def check_source(source: str) -> None:
    """Refuse a source that cannot be loaded, without loading it.

    Raises:
        DataError: it is unknown, or no file. What the hub has is known only when it is asked.
    """
    if source in cards() or source == MNIST_LIKE or source.startswith(hub.PREFIX):
        return
    path = Path(source)
    if path.is_dir():
        pictures.images_in(path)
        return
    if path.suffix.lower() in (".npz", *SUFFIXES):
        if not path.is_file():
            raise DataError(f"there is no file {source!r} (working directory: {Path.cwd()}); {_remedy()}")
        return
    near = get_close_matches(source, [*cards(), MNIST_LIKE], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"there is no data set {source!r}; {hint}{_remedy()}")


def _remedy() -> str:
    return (
        f"give one of {', '.join(cards())}, {MNIST_LIKE} or the path of an .npz, .csv or .parquet file or an image "
        f"folder, or hub:OWNER/NAME"
    )


def load_source(source: str) -> Raw:
    """Load all records of a source.

    Raises:
        DataError: the source is unknown or unreadable, or its content is not what records look like.
    """
    check_source(source)
    if source in (known := cards()):
        return checked(replace(known[source].load(), name=source))
    return _stored(source)


def version_of(source: str) -> str:
    """What changes when a source's content does: the shipping package's version, or the SHA-256 of files."""
    check_source(source)
    if source.startswith(hub.PREFIX):
        return hub.version_of_hub(source)
    if source == MNIST_LIKE:
        return f"{MNIST_LIKE}, fitted to {version_of('mnist5k')}"
    if source in cards():
        return cards()[source].version
    try:
        if Path(source).is_dir():
            return pictures.content_of(Path(source))
        with Path(source).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{source!r} cannot be read: {error.strerror}") from None


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
