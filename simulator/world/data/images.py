"""Arrays of images in the one form that the simulator works with: grey or RGB, channels last, from 0 to 1."""

import numpy as np

from palimpsest.simulator.world.data.reading import Note
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

_CHANNELS = (1, 3)
_DARK = 64
"""Images in uint8 that go no further are probably scaled to something else than 255."""


def usable(x: Array, notes: list[Note]) -> Array:
    """``[n, H, W]`` or ``[n, H, W, C]`` with C 1 or 3, uint8 of 0..255 or float32 of 0..1.

    Channels that come first are put last; whole numbers of 0..255 and images of nothing but 0 and 1 are taken for what
    they are; each of these is noted.

    Raises:
        DataError: images of other channels or of another range.
    """
    return _scaled(_channels_last(x, notes), notes)


def _channels_last(x: Array, notes: list[Note]) -> Array:
    if x.ndim == 3 or x.shape[3] in _CHANNELS:
        return x
    if x.shape[1] in _CHANNELS:
        notes.append(Note(kind="read", text=f"images are {list(x.shape[1:])}, channels first; they are put last"))
        return np.moveaxis(x, 1, 3)
    channels = x.shape[1] if x.shape[1] < min(x.shape[2:]) else x.shape[3]
    hint = "drop the transparency, x[..., :3], " if channels == 4 else "take one or three of them, "
    raise DataError(
        f"x has shape {list(x.shape)}, images of {channels} channels; 1 (grey) or 3 (RGB) can be used: {hint}or store "
        f"a table [n, d]"
    )


def _scaled(x: Array, notes: list[Note]) -> Array:
    low, high = float(x.min()), float(x.max())
    whole = x.dtype.kind in "iu"
    if x.dtype == bool or (whole and low >= 0 and high <= 1):
        if whole:
            notes.append(Note(kind="read", text="images hold nothing but 0 and 1, taken as black and white"))
        return x.astype(np.float32)
    if whole and low >= 0 and high <= 255:
        if high < _DARK:
            text = f"images in {x.dtype} go to {high:g} of 255 only, nearly black; if {high:g} is white, store "
            notes.append(Note(kind="warning", text=f"{text}x / {high:g}"))
        return x.astype(np.uint8, copy=False)
    if low < 0.0 or high > 1.0:
        hint = "store them as uint8" if 1 < high <= 255 and low >= 0 else "scale them"
        raise DataError(
            f"x holds images of {x.dtype} from {low:g} to {high:g}; uint8 in 0..255 or floats in [0, 1] are needed: "
            f"{hint}"
        )
    return x.astype(np.float32)
