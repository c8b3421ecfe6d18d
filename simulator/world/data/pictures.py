"""Folders of images, a folder a class, as the arrays that an npz file would hold."""

import hashlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = {"train": 0, "test": 1}
"""Folders that hold classes in their turn, where there is nothing beside them; and their numbers in ``split``."""

_FORMATS = ("PNG", "JPEG")
_MOST_PIXELS = 25_000_000
_MODES = ("1", "L", "P", "RGB")


def images_in(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """List the files of a folder of images, without opening one: split -> class -> paths, all sorted by name.

    The one split of a folder without ``train`` and ``test`` is ``""``. What is hidden is left out.

    Raises:
        DataError: there is no class in it, or something else beside its images.
    """
    inner = {path.name: path for path in _visible(folder)}
    splits = inner if inner and inner.keys() <= SPLITS.keys() else {"": folder}
    images = {name: {path.name: _files(path) for path in _visible(place)} for name, place in sorted(splits.items())}
    if not any(images.values()):
        raise DataError(f"{folder} holds no folders of images, one a class")
    return images


def read_folder(folder: Path) -> dict[str, Array]:
    """Read all images of a folder: ``x`` uint8, grey ``[n, H, W]`` or, if any has colours, ``[n, H, W, 3]``.

    Raises:
        DataError: it is no folder of images, or one of them cannot be used.
    """
    from PIL import Image

    listed = images_in(folder)
    classes = sorted({name for split in listed.values() for name in split})
    pictures, labels, splits = [], [], []
    for split, classes_of in listed.items():
        for name, paths in classes_of.items():
            for path in paths:
                try:
                    with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as image:
                        pictures.append(pixels(image, str(path)))
                except DataError:
                    raise
                except Exception as error:  # a damaged image fails in as many ways as there are formats
                    raise DataError(
                        f"{path} cannot be read as an image, save it again or take it away: {error}"
                    ) from None
            labels += [classes.index(name)] * len(paths)
            splits += [SPLITS.get(split, 0)] * len(paths)
    arrays = {"x": stacked(pictures, str(folder)), "y": np.array(labels), "class_names": np.array(classes)}
    return arrays if "" in listed else arrays | {"split": np.array(splits)}


def pixels(image: "Image", where: str) -> Array:
    """One image, uint8 ``[H, W]`` or ``[H, W, 3]``, turned as the camera says that it was held (EXIF).

    Raises:
        DataError: it has transparency, more than 8 bits a channel, or too many pixels.
    """
    width, height = image.size
    if width * height > _MOST_PIXELS:
        raise DataError(
            f"{where} has {width:,} x {height:,} pixels, and {_MOST_PIXELS:,} are the most: every record is held as so "
            f"many numbers; scale the images down"
        )
    if image.mode not in _MODES or "transparency" in image.info:
        raise DataError(
            f"{where} is of mode {image.mode!r}, or transparent; grey, palette and RGB images of 8 bits can be used: "
            f"convert it"
        )
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    return np.asarray(upright.convert("RGB" if image.mode in ("P", "RGB") else "L"))


def stacked(pictures: Iterable[Array], where: str) -> Array:
    """All images as one array, grey ones in colour where others are.

    Raises:
        DataError: they differ in size.
    """
    pictures = list(pictures)
    sizes = sorted({picture.shape[:2] for picture in pictures})
    if len(sizes) > 1:
        shown = " and ".join(f"{width} x {height}" for height, width in sizes[:2])
        raise DataError(f"{where} holds images of {len(sizes)} sizes, such as {shown} pixels: scale them to one")
    if len({picture.ndim for picture in pictures}) > 1:
        pictures = [picture if picture.ndim == 3 else np.stack([picture] * 3, axis=2) for picture in pictures]
    return np.stack(pictures)


def content_of(folder: Path) -> str:
    """SHA-256 over the names and bytes of all images."""
    digest = hashlib.sha256()
    for split in images_in(folder).values():
        for paths in split.values():
            for path in paths:
                with path.open("rb") as file:
                    held = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{path.relative_to(folder)} {held}\n".encode())
    return digest.hexdigest()


def _visible(folder: Path) -> list[Path]:
    """The folders in a folder.

    Raises:
        DataError: there is something else in it.
    """
    entries = _listed(folder)
    if strangers := [path for path in entries if not path.is_dir()]:
        raise DataError(f"{strangers[0]} stands where folders of images are looked for, one a class: take it away")
    return entries


def _files(folder: Path) -> list[Path]:
    """The images in a class's folder.

    Raises:
        DataError: there is none, or something else.
    """
    entries = _listed(folder)
    if strangers := [path for path in entries if path.suffix.lower() not in SUFFIXES or not path.is_file()]:
        raise DataError(f"{strangers[0]} is no {', '.join(SUFFIXES)} file: convert it, or take it away")
    if not entries:
        raise DataError(f"{folder} holds no image: take the folder away, or fill it")
    return entries


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None
