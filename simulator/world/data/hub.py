"""Data sets of images on the Hugging Face hub, as the arrays that an npz file would hold."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from palimpsest.simulator.world.data import pictures
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

if TYPE_CHECKING:
    from datasets import DatasetDict, Features

PREFIX = "hub:"
"""Before the name that the hub knows it by, or the path of a directory that is laid out as there."""

Answer = TypeVar("Answer")


def read_hub(source: str) -> dict[str, Array]:
    """Download a data set, or take it from the cache of ``datasets``; its splits are ``train`` and ``test``.

    Returns:
        ``x`` and ``y`` as of a folder of images, ``class_names``, and ``split``.

    Raises:
        DataError: it cannot be had, or does not hold one column of images and one of classes.
    """
    import datasets

    datasets.disable_progress_bars()
    return arrays_of(_had(source, lambda: datasets.load_dataset(source.removeprefix(PREFIX))), source)


def arrays_of(loaded: "DatasetDict", source: str) -> dict[str, Array]:
    """What ``read_hub`` returns, of splits that are loaded already.

    Raises:
        DataError: see ``read_hub``.
    """
    if "train" not in loaded:
        raise DataError(f"{source} has no split 'train' (it has {', '.join(loaded)})")
    parts = {name: loaded[name] for name in pictures.SPLITS if name in loaded}
    features = parts["train"].features
    image = _column(source, features, "Image", "image")
    label = _column(source, features, "ClassLabel", "label")
    held = [
        pictures.pixels(row[image], f"{source}, {name} {number}")
        for name, part in parts.items()
        for number, row in enumerate(part.select_columns(image))
    ]
    return {
        "x": pictures.stacked(held, source),
        "y": np.concatenate([np.asarray(part[label][:], dtype=np.int64) for part in parts.values()]),
        "class_names": np.array(features[label].names),
        "split": np.concatenate([np.full(len(part), pictures.SPLITS[name]) for name, part in parts.items()]),
    }


def version_of_hub(source: str) -> str:
    """What changes with the content: the hub's commit, or what ``datasets`` knows a directory by.

    Raises:
        DataError: it cannot be had.
    """
    import datasets

    return str(_had(source, lambda: datasets.load_dataset_builder(source.removeprefix(PREFIX)).hash))


def _had(source: str, ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except Exception as error:  # the hub and its files fail in many ways; all of them are about this source
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{source} cannot be loaded: {said}") from error


def _column(source: str, features: "Features", kind: str, preferred: str) -> str:
    """The column that holds images, or classes: the only one, or the one that is called so."""
    names = [str(name) for name, feature in features.items() if type(feature).__name__ == kind]
    if preferred in names:
        return preferred
    if len(names) != 1:
        raise DataError(
            f"{source} has {len(names)} columns of type {kind} (of {', '.join(features)}), and one is needed, or one "
            f"called {preferred!r}; write what you mean to an .npz or .parquet file"
        )
    return names[0]
