"""Data sets laid out as on the Hugging Face hub, in a directory: the hub itself is not asked."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from palimpsest.simulator.world.data.datasets import DataError, check_source, load_source, version_of

RNG = np.random.default_rng(6)
PIXELS = RNG.integers(0, 256, (8, 5, 4), dtype=np.uint8)
LABELS = datasets.ClassLabel(names=["cat", "dog"])


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def _put(directory: Path, split: str, columns: dict[str, Any], kinds: dict[str, Any]) -> str:
    """Write one split; return the source's name."""
    directory.mkdir(exist_ok=True)
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    table.to_parquet(directory / f"{split}-00000-of-00001.parquet")
    return f"hub:{directory}"


def _columns(which: slice) -> dict[str, Any]:
    drawn = [Image.fromarray(pixels) for pixels in PIXELS[which]]
    return {"image": drawn, "label": [i % 2 for i in range(8)[which]]}


KINDS = {"image": datasets.Image(), "label": LABELS}


def test_images_and_classes_are_read_with_their_splits(tmp_path: Path) -> None:
    _put(tmp_path / "pets", "train", _columns(slice(0, 6)), KINDS)
    source = _put(tmp_path / "pets", "test", _columns(slice(6, 8)), KINDS)
    raw = load_source(source)
    assert np.array_equal(raw.x, PIXELS) and raw.y.tolist() == [0, 1] * 4
    assert raw.split is not None and raw.split.tolist() == [0] * 6 + [1] * 2
    assert (raw.name, raw.class_names) == ("pets", ("cat", "dog"))
    before = version_of(source)
    _put(tmp_path / "pets", "test", _columns(slice(5, 8)), KINDS)
    assert version_of(source) != before


def test_what_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path) -> None:
    rows = _columns(slice(0, 6))
    only_test = _put(tmp_path / "a", "test", rows, KINDS)
    two_labels = _put(
        tmp_path / "b",
        "train",
        {"image": rows["image"], "fine": rows["label"], "coarse": rows["label"]},
        {"image": datasets.Image(), "fine": LABELS, "coarse": LABELS},
    )
    no_image = _put(tmp_path / "c", "train", {"label": rows["label"]}, {"label": LABELS})
    needed = {
        only_test: "has no split 'train'",
        two_labels: "has 2 columns of type ClassLabel (of image, fine, coarse)",
        no_image: "has 0 columns of type Image (of label)",
        f"hub:{tmp_path / 'none'}": "cannot be loaded: ",
    }
    for source, part in needed.items():
        check_source(source)
        with pytest.raises(DataError) as caught:
            load_source(source)
        assert str(caught.value).startswith(source) and part in str(caught.value) and "\n" not in str(caught.value)
