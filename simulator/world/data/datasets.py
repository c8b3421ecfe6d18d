"""Where records come from: the data sets that the dependencies ship, files, folders of images, or Python itself."""

import hashlib
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from palimpsest.simulator.world.data import given, hub, pictures
from palimpsest.simulator.world.data.archives import read_npz
from palimpsest.simulator.world.data.raw import Raw, checked
from palimpsest.simulator.world.data.reading import Reading
from palimpsest.simulator.world.data.sources import cards
from palimpsest.simulator.world.data.table_files import SUFFIXES, suffix_of
from palimpsest.simulator.world.errors import DataError

__all__ = ["DataError", "Raw", "check_source", "load_source", "version_of"]

MNIST_LIKE = "synthetic:mnist-like"
"""A population of any size that is made where it is read: ``world.synthetic``."""


def check_source(source: str) -> None:
    """Refuse a source that cannot be loaded, without loading it.

    Raises:
        DataError: it is unknown, or no file. What the hub has is known only when it is asked.
    """
    if source in cards() or source == MNIST_LIKE or source.startswith((hub.PREFIX, given.PREFIX)):
        return
    path = Path(source)
    if path.is_dir():
        pictures.images_in(path)
        return
    if is_table(source) or path.suffix.lower() == ".npz":
        if not path.is_file():
            raise DataError(f"there is no file {source!r} (working directory: {Path.cwd()}); {_remedy()}")
        return
    if path.is_file():
        raise DataError(f"{source!r} is a file of a kind that is not read; {_remedy()}")
    near = get_close_matches(source, [*cards(), MNIST_LIKE], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"there is no data set {source!r}; {hint}{_remedy()}")


def _remedy() -> str:
    return (
        f"give one of {', '.join(cards())}, {MNIST_LIKE} or the path of an .npz, .csv or .parquet file (.tsv, .csv.gz "
        f"too) or an image folder, or hub:OWNER/NAME"
    )


def is_table(source: str) -> bool:
    """Whether it is a file whose columns have names and kinds."""
    return source not in cards() and suffix_of(Path(source)) in SUFFIXES


def load_source(source: str, reading: Reading | None = None) -> Raw:
    """Load all records of a source.

    Args:
        source: as in a scenario.
        reading: which columns are what, and what becomes of missing values; None: the defaults.

    Raises:
        DataError: the source is unknown or unreadable, or its content is not what records look like.
    """
    check_source(source)
    how = reading or Reading()
    if source.startswith(given.PREFIX):
        return checked(given.recall(source), how)
    if source in (known := cards()):
        return checked(replace(known[source].load(), name=source), how)
    return _stored(source, how)


def version_of(source: str) -> str:
    """What changes when a source's content does: the shipping package's version, or the SHA-256 of files."""
    check_source(source)
    if source.startswith(hub.PREFIX):
        return hub.version_of_hub(source)
    if source.startswith(given.PREFIX):
        return source.removeprefix(given.PREFIX)
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


def _stored(source: str, reading: Reading) -> Raw:
    arrays = _arrays(source, reading)
    for key in ("x", "y"):
        if key not in arrays:
            raise DataError(
                f"{source} has no {key!r} (it has {', '.join(sorted(arrays)) or 'nothing'}); x and y are needed"
            )
    raw = Raw(
        name=Path(source).name.split(".")[0] or source,
        x=arrays["x"],
        y=arrays["y"],
        client=arrays.get("client"),
        split=arrays.get("split"),
        class_names=_names(arrays, "class_names"),
        feature_names=_names(arrays, "feature_names"),
        site_names=_names(arrays, "client_names"),
        categorical=arrays.get("is_categorical", np.zeros(0, dtype=bool)),
        levels=arrays.get("levels", {}) if is_table(source) else {},
        texts=arrays.get("texts", ()) if is_table(source) else (),
        notes=arrays.get("notes", ()) if is_table(source) else (),
    )
    try:
        return checked(raw, reading)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def _arrays(source: str, reading: Reading) -> dict[str, Any]:
    path = Path(source)
    if source.startswith(hub.PREFIX):
        return hub.read_hub(source)
    if path.is_dir():
        return pictures.read_folder(path)
    if is_table(source):
        from palimpsest.simulator.world.data.tables import read_table

        return read_table(path, reading)
    return read_npz(path)


def _names(arrays: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(str(name) for name in np.atleast_1d(arrays[key])) if key in arrays else ()
