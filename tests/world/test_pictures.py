"""Folders of images: what is read from them, and the sentences for those that cannot be used."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.scenario.load import ScenarioError, scenario_from_dict
from palimpsest.simulator.world.data.datasets import DataError, check_source, load_source, version_of

RNG = np.random.default_rng(5)


def _draw(path: Path, colours: bool = False, size: tuple[int, int] = (6, 5)) -> np.ndarray:
    """Store a random image losslessly, and return its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (*size, 3) if colours else size, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_folder_a_class(tmp_path: Path) -> None:
    drawn = [_draw(tmp_path / f"{name}.png") for name in ("cat/1", "cat/2", "dog/1")]
    (tmp_path / ".hidden").write_text("left out")
    raw = load_source(str(tmp_path))
    assert np.array_equal(raw.x, np.stack(drawn)) and raw.x.dtype == np.uint8
    assert raw.y.tolist() == [0, 0, 1] and raw.class_names == ("cat", "dog")
    assert raw.name == tmp_path.name and raw.split is None


def test_folders_of_splits_and_grey_images_among_coloured_ones(tmp_path: Path) -> None:
    seen = _draw(tmp_path / "train" / "b" / "1.png", colours=True)
    other = _draw(tmp_path / "train" / "c" / "1.png")
    held = _draw(tmp_path / "test" / "a" / "1.PNG", colours=True)
    raw = load_source(str(tmp_path))
    assert raw.split is not None and raw.split.tolist() == [1, 0, 0]
    assert raw.y.tolist() == [0, 1, 2] and raw.class_names == ("a", "b", "c")
    assert np.array_equal(raw.x, np.stack([held, seen, np.stack([other] * 3, axis=2)]))


def test_jpeg_images_and_palettes(tmp_path: Path) -> None:
    flat = np.full((8, 8, 3), 200, dtype=np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(flat).save(tmp_path / "a" / "1.jpeg", quality=95)
    Image.fromarray(flat).quantize(4).save(tmp_path / "a" / "2.png")
    raw = load_source(str(tmp_path))
    assert raw.x.shape == (2, 8, 8, 3) and np.abs(raw.x.astype(int) - 200).max() <= 2


def _text_beside(folder: Path) -> None:
    (folder / "a" / "notes.txt").write_text("not an image")


def _damaged(folder: Path) -> None:
    whole = (folder / "a" / "1.png").read_bytes()
    (folder / "a" / "1.png").write_bytes(whole[: len(whole) // 2])


def _pretends(folder: Path) -> None:
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(folder / "a" / "1.png", format="BMP")


def _transparent(folder: Path) -> None:
    Image.fromarray(np.zeros((6, 5, 4), np.uint8)).save(folder / "a" / "1.png")


def _deep(folder: Path) -> None:
    Image.fromarray(np.zeros((6, 5), np.uint16)).save(folder / "a" / "1.png")


@pytest.mark.parametrize(
    "spoil, needed",
    [
        (_text_beside, "notes.txt is no .png, .jpg, .jpeg file"),
        (_damaged, "1.png cannot be read as an image, save it again or take it away"),
        (_pretends, "1.png cannot be read as an image"),
        (_transparent, "1.png is of mode 'RGBA'"),
        (
            _deep,
            "1.png is of mode 'I;16', or transparent; grey, palette and RGB images of 8 bits can be used: convert it",
        ),
        (lambda folder: (folder / "b").mkdir(), "b holds no image"),
        (lambda folder: _draw(folder / "a" / "2.png", size=(4, 5)), "2 sizes, such as 5 x 4 and 5 x 6 pixels"),
        (lambda folder: _draw(folder / "2.png"), "2.png stands where folders of images are looked for"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, spoil: Callable[[Path], object], needed: str
) -> None:
    _draw(tmp_path / "a" / "1.png")
    spoil(tmp_path)
    with pytest.raises(DataError) as caught:
        load_source(str(tmp_path))
    assert needed in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_is_none_of_images_is_refused_when_a_scenario_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("not an image")
    with pytest.raises(ScenarioError, match=r"^data.source = .*some.txt stands where folders of images are looked for"):
        scenario_from_dict({"name": "x", "data": {"source": str(tmp_path)}})
    (tmp_path / "some.txt").unlink()
    with pytest.raises(DataError, match="holds no folders of images"):
        check_source(str(tmp_path))


def test_the_version_of_a_folder_is_its_content(tmp_path: Path) -> None:
    _draw(tmp_path / "a" / "1.png")
    first = version_of(str(tmp_path))
    assert version_of(str(tmp_path)) == first
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = version_of(str(tmp_path))
    _draw(tmp_path / "b" / "1.png")
    assert len({first, renamed, version_of(str(tmp_path))}) == 3


def test_a_scenario_runs_on_a_folder_of_images(tmp_path: Path) -> None:
    for number in range(60):
        _draw(tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png", size=(4, 4))
    scenario = scenario_from_dict(
        {
            "name": "pictures",
            "data": {"source": str(tmp_path / "pictures"), "clients": 4},
            "training": {"rounds": 1, "clients_per_round": 2},
            "deletion": {"requests": 2},
            "unlearning": [{"method": "ascent"}],
            "attack": [{"kind": "hrec"}],
        }
    )
    (tmp_path / "run").mkdir()
    [arm] = simulate(scenario, prepare(scenario), tmp_path / "run", SerialGrid(1))["arms"]
    # One step of ascent gives the gradient itself away, whatever the images show.
    assert arm["attacks"]["hrec"]["cosine_median"] > 0.999
