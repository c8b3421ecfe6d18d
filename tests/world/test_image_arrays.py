"""Arrays of images of every layout and range, and photographs that a camera turned."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from palimpsest.simulator.world.data.build import build_population
from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.datasets import load_source
from palimpsest.simulator.world.errors import DataError

RNG = np.random.default_rng(9)
N = 24
COLOUR = RNG.integers(0, 256, (N, 6, 5, 3), dtype=np.uint8)
TURNED = {1: lambda a: a, 3: lambda a: np.rot90(a, 2), 6: lambda a: np.rot90(a, 1), 8: lambda a: np.rot90(a, -1)}
"""What the camera stores, by EXIF orientation, where the photograph is ``a``."""


def stored(directory: Path, x: Any) -> str:
    np.savez(directory / "pictures.npz", x=x, y=np.arange(N) % 2)
    return str(directory / "pictures.npz")


def test_channels_that_come_first_are_put_last_and_this_is_said(tmp_path: Path) -> None:
    raw = load_source(stored(tmp_path, np.moveaxis(COLOUR, 3, 1)))
    assert np.array_equal(raw.x, COLOUR)
    assert [note.text for note in raw.notes] == ["images are [3, 6, 5], channels first; they are put last"]
    grey = load_source(stored(tmp_path, COLOUR[:, None, :, :, 0]))
    assert np.array_equal(grey.x[..., 0], COLOUR[..., 0])


@pytest.mark.parametrize("shape, channels", [((8, 8, 2), 2), ((8, 8, 4), 4), ((2, 8, 8), 2), ((8, 8, 5), 5)])
def test_images_of_other_channels_are_refused_before_anything_runs(
    shape: tuple[int, ...], channels: int, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"images of {channels} channels; 1 \(grey\) or 3 \(RGB\) can be used"):
        load_source(stored(tmp_path, RNG.integers(0, 256, (N, *shape), dtype=np.uint8)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_images_of_nothing_but_0_and_1_are_black_and_white(dtype: type, tmp_path: Path) -> None:
    drawn = RNG.integers(0, 2, (N, 6, 6))
    source = stored(tmp_path, drawn.astype(dtype))
    raw = load_source(source)
    assert np.array_equal(raw.x, drawn) and raw.x.dtype == np.float32
    assert [note.text for note in raw.notes] == ["images hold nothing but 0 and 1, taken as black and white"] * (
        dtype is not bool
    )
    population = build_population(DataConfig(source=source, clients=3), 0)
    assert population.public_x.max() == 1.0


def test_whole_numbers_up_to_255_are_the_same_in_every_type(tmp_path: Path) -> None:
    wanted = load_source(stored(tmp_path, COLOUR))
    for dtype in (np.int16, np.int64):
        raw = load_source(stored(tmp_path, COLOUR.astype(dtype)))
        assert raw.x.dtype == np.uint8 and np.array_equal(raw.x, wanted.x)


def test_images_that_are_nearly_black_are_worth_a_warning(tmp_path: Path) -> None:
    raw = load_source(stored(tmp_path, RNG.integers(0, 17, (N, 6, 6), dtype=np.uint8)))
    assert [note.kind for note in raw.notes] == ["warning"] and "store x / 16" in raw.notes[0].text


@pytest.mark.parametrize("x", [COLOUR.astype(float), COLOUR / 127.5 - 1, COLOUR.astype(int) * 3])
def test_other_ranges_are_refused(x: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"uint8 in 0..255 or floats in \[0, 1\] are needed"):
        load_source(stored(tmp_path, x))


def photograph(path: Path, orientation: int) -> np.ndarray:
    """Store a photograph as a camera does that is held in some way; return it upright."""
    upright = np.repeat(np.repeat(RNG.integers(0, 256, (2, 2, 3), dtype=np.uint8), 8, 0), 8, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(TURNED[orientation](upright))).save(path, exif=exif)
    return upright


@pytest.mark.parametrize("orientation", TURNED)
def test_photographs_are_turned_as_the_camera_says(orientation: int, tmp_path: Path) -> None:
    upright = photograph(tmp_path / "folder" / "a" / "1.png", orientation)
    assert np.array_equal(load_source(str(tmp_path / "folder")).x, [upright])


def test_the_hub_turns_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    upright = photograph(tmp_path / "1.png", 6)
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    columns = {"image": [str(tmp_path / "1.png")] * 2, "label": [0, 1]}
    (tmp_path / "hub").mkdir()
    datasets.Dataset.from_dict(columns, features=kinds).to_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet")
    assert np.array_equal(load_source(f"hub:{tmp_path / 'hub'}").x, [upright, upright])
