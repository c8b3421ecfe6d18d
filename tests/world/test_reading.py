"""Typed tables, roles of columns, splits, targets and sparse matrices: what they are read as."""

import datetime
import decimal
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from palimpsest.simulator.scenario.load import ScenarioError, scenario_from_dict
from palimpsest.simulator.world.data.build import build_population
from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.datasets import load_source
from palimpsest.simulator.world.data.foreign import foreign_sample
from palimpsest.simulator.world.data.reading import Columns, Reading
from palimpsest.simulator.world.errors import DataError

RNG = np.random.default_rng(8)
N = 90
FRAME = pd.DataFrame({"a": RNG.normal(size=N), "b": RNG.integers(0, 5, N), "y": RNG.choice(["no", "yes"], N)})


def parquet(directory: Path, **columns: Any) -> str:
    FRAME.assign(**columns).to_parquet(directory / "t.parquet")
    return str(directory / "t.parquet")


def csv(directory: Path, frame: pd.DataFrame) -> str:
    frame.to_csv(directory / "t.csv", index=False)
    return str(directory / "t.csv")


def test_decimals_categories_and_nullable_columns_of_a_typed_file_are_what_they_say(tmp_path: Path) -> None:
    source = parquet(
        tmp_path,
        price=[decimal.Decimal("1.25"), decimal.Decimal("3")] * (N // 2),
        sort=pd.Categorical(["x", "z"] * (N // 2), categories=["z", "x", "never"]),
        flag=pd.array([True, False] * (N // 2), dtype="boolean"),
        count=pd.array([1, 2] * (N // 2), dtype="Int64"),
    )
    raw = load_source(source)
    assert raw.feature_names == ("a", "b", "price", "sort", "flag", "count")
    assert raw.x[:2, 2].tolist() == [1.25, 3.0] and raw.x[:2, 4:].tolist() == [[1, 1], [0, 2]]
    assert raw.categorical.tolist() == [False, False, False, True, False, False] and raw.levels == {3: ("x", "z")}


@pytest.mark.parametrize("dtype", ["boolean", "Int64"])
def test_a_nullable_column_with_a_gap_lacks_a_value_and_is_no_category(dtype: str, tmp_path: Path) -> None:
    source = parquet(tmp_path, flag=pd.array([1, None, 0] * (N // 3), dtype=dtype))
    with pytest.raises(DataError, match=r"column 'flag' lacks 30 values of 90 .*; .*data.missing = 'drop' or 'mean'"):
        load_source(source)
    assert load_source(source, Reading(missing="drop")).x[:, 2].tolist() == [1, 0] * (N // 3)


@pytest.mark.parametrize(
    "values, said",
    [
        ([datetime.date(2020, 1, 1)] * N, "holds dates, such as '2020-01-01'"),
        (pd.date_range("2020-01-01", periods=N), "holds dates"),
        (pd.to_timedelta(np.arange(N), unit="h"), "holds times or durations"),
        ([datetime.time(1, 2)] * N, "holds times or durations"),
        ([[1, 2]] * N, "holds lists"),
        ([b"12"] * N, "holds lists"),
        (["12", "13"] * (N // 2), "stored as text, and all of it is numbers"),
        ([None] * N, "no value at all"),
    ],
)
def test_columns_of_a_typed_file_that_are_no_inputs_are_refused(values: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"t.parquet: column 'extra' .*{said}|column 'extra' {said}"):
        load_source(parquet(tmp_path, extra=values))


def test_a_named_index_of_a_typed_file_is_a_column(tmp_path: Path) -> None:
    frame = FRAME.assign(client=RNG.choice(["u", "v"], N)).set_index("client")
    frame.to_parquet(tmp_path / "t.parquet")
    assert load_source(str(tmp_path / "t.parquet")).site_names == ("u", "v")


def test_columns_are_named_by_the_scenario(tmp_path: Path) -> None:
    frame = FRAME.rename(columns={"y": "outcome"}).assign(
        part=RNG.choice(["Test", "train", "validation"], N), ward=RNG.choice(["2", "10"], N), note="same"
    )
    source = csv(tmp_path, frame)
    columns = {"target": "outcome", "client": "ward", "split": "part", "drop": ["note"]}
    scenario = scenario_from_dict(
        {"name": "x", "data": {"source": source, "columns": columns, "partition": {"scheme": "natural"}}}
    )
    raw = load_source(source, scenario.data.reading)
    assert raw.feature_names == ("a", "b") and raw.class_names == ("no", "yes")
    assert raw.split is not None and raw.client is not None
    assert np.array_equal(raw.split, frame["part"].map({"train": 0, "Test": 1, "validation": 2}))
    assert [(note.kind, note.count) for note in raw.notes] == [("dropped", (frame["part"] == "validation").sum())]
    population = build_population(scenario.data, 0)
    assert population.schema.site_names == ("2", "10") and population.preview is not None


@pytest.mark.parametrize(
    "columns, said",
    [
        ({"target": "outcom"}, "columns.target = 'outcom': there is no such column; did you mean 'outcome'"),
        ({"target": "outcome", "drop": ["c"]}, "columns.drop = 'c': there is no such column; there are a, b, outcome"),
        ({}, "there is no column 'y' to learn .*a, b, outcome.*target ="),
        ({"target": "outcome", "drop": ["a", "b"]}, "no column but outcome"),
    ],
)
def test_a_column_that_is_not_there_is_said_with_those_that_are(
    columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    source = csv(tmp_path, FRAME.rename(columns={"y": "outcome"}))
    with pytest.raises(DataError, match=said):
        load_source(source, Reading(columns=Columns.model_validate(columns)))


@pytest.mark.parametrize(
    "data, said",
    [
        ({"source": "digits", "columns": {"target": "y"}}, "data.columns are those of a table"),
        ({"columns": {"target": "y", "drop": ["y"]}}, "names the column 'y' twice"),
        ({"missing": "guess"}, r'data.missing = "guess": must be one of'),
        ({"task": "clustering"}, r'data.task = "clustering": must be'),
    ],
)
def test_what_the_data_section_cannot_mean_is_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        scenario_from_dict({"name": "x", "data": data})


@pytest.mark.parametrize(
    "name, values, train",
    [
        ("is_train", [True, True, False], [0, 0, 1]),
        ("is_train", [1, 1, 0], [0, 0, 1]),
        ("is_test", [True, False, False], [1, 0, 0]),
        ("fold", [0, 1, 0], [0, 1, 0]),
        ("fold", ["Training", "TEST", "val"], [0, 1, 2]),
    ],
)
def test_a_split_means_what_its_words_and_its_name_say(
    name: str, values: list[Any], train: list[int], tmp_path: Path
) -> None:
    source = csv(tmp_path, FRAME.assign(**{name: values * (N // 3)}))
    raw = load_source(source, Reading(columns=Columns(split=name)))
    assert raw.split is not None and raw.split.tolist() == train * (N // 3)


@pytest.mark.parametrize(
    "values, said",
    [
        ([0, 1, 2], "holds 0, 1, 2; write the words"),
        ([True, False, True], "its name does not say of what"),
        (["test", "test", "val"], "says train of no record"),
    ],
)
def test_a_split_that_can_be_read_two_ways_is_refused(values: list[Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        load_source(csv(tmp_path, FRAME.assign(fold=values * (N // 3))), Reading(columns=Columns(split="fold")))


TARGETS: dict[str, tuple[Any, str, tuple[str, ...], str]] = {
    "from one": ([1, 2, 3] * (N // 3), "auto", ("1", "2", "3"), ""),
    "below zero": ([-1, 1] * (N // 2), "auto", ("-1", "1"), ""),
    "booleans": ([True, False] * (N // 2), "auto", ("False", "True"), ""),
    "amounts": (np.arange(N) * 1000, "auto", (), "taken as amounts (regression); if they are classes"),
    "amounts as classes": (np.arange(N) % 30, "classification", tuple(map(str, range(30))), ""),
    "many classes": (
        np.arange(N * 10) % 30,
        "auto",
        tuple(map(str, range(30))),
        "taken as classes; if they are amounts",
    ),
    "classes as amounts": ([1, 2, 3] * (N // 3), "regression", (), ""),
    "decimals": ([0.0, 1.0, 2.0] * (N // 3), "auto", (), "stored as decimals: taken as amounts"),
    "decimals as classes": ([0.0, 1.0, 2.0] * (N // 3), "classification", ("0", "1", "2"), ""),
}


@pytest.mark.parametrize("values, task, classes, noted", TARGETS.values(), ids=TARGETS.keys())
def test_targets_are_classes_or_amounts_and_which_is_said(
    values: Any, task: Any, classes: tuple[str, ...], noted: str, tmp_path: Path
) -> None:
    x = RNG.normal(size=len(values))
    raw = load_source(csv(tmp_path, pd.DataFrame({"x": x, "y": values})), Reading(task=task))
    assert raw.class_names == classes and raw.is_regression == (not classes)
    shown = [float(name == "True") if name in ("True", "False") else float(name) for name in classes]
    assert np.array_equal([shown[label] for label in raw.y] if classes else raw.y, np.asarray(values, float))
    assert [noted in note.text for note in raw.notes] == [True] * bool(noted)


@pytest.mark.parametrize(
    "values, task, said",
    [
        ([0.5, 1.0] * (N // 2), "classification", "holds fractions"),
        (["a", "b"] * (N // 2), "regression", "is text"),
        ([7] * N, "auto", "one value in every record"),
        (np.arange(N), "classification", "each class needs several records"),
        ([f"c{k}" for k in range(N)], "auto", "90 different values in 90 records: each class needs several"),
        ([1e300, 2.5] * (N // 2), "auto", "more than single precision holds"),
    ],
)
def test_targets_that_are_not_what_is_said_are_refused(values: Any, task: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        load_source(csv(tmp_path, FRAME.assign(y=values)), Reading(task=task))


def test_integers_of_an_npz_file_with_many_values_are_said_to_be_amounts(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=RNG.normal(size=(N, 2)), y=np.arange(N) // 2)
    raw = load_source(str(tmp_path / "t.npz"))
    assert raw.is_regression and "taken as amounts" in raw.notes[0].text
    assert load_source(str(tmp_path / "t.npz"), Reading(task="classification")).classes == N // 2


def test_whole_decimals_of_an_npz_file_are_amounts_and_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    for y, told in ((np.arange(N) % 3.0, True), (np.arange(N) + 0.5, False)):
        np.savez(path, x=RNG.normal(size=(N, 2)), y=y)
        raw = load_source(str(path))
        assert raw.is_regression
        assert ["stored as decimals: taken as amounts" in note.text for note in raw.notes] == [True] * told
        assert not load_source(str(path), Reading(task="regression")).notes


def test_words_of_an_npz_file_are_names(tmp_path: Path) -> None:
    y, client, split = (
        np.array(words * (N // 3)) for words in (list("bab"), ["u", "v", "v"], ["train", "test", "val"])
    )
    np.savez(tmp_path / "t.npz", x=RNG.normal(size=(N, 2)), y=y, client=client, split=split)
    raw = load_source(str(tmp_path / "t.npz"))
    assert (raw.class_names, raw.site_names) == (("a", "b"), ("u", "v"))
    assert raw.y[:3].tolist() == [1, 0, 1] and raw.split is not None and raw.split[:3].tolist() == [0, 1, 2]


def test_a_sparse_matrix_is_written_out_and_needs_its_labels_beside_it(tmp_path: Path) -> None:
    dense = RNG.integers(0, 3, (N, 7)) * (RNG.random((N, 7)) < 0.3)
    scipy.sparse.save_npz(tmp_path / "m.npz", scipy.sparse.csr_matrix(dense))
    with pytest.raises(DataError, match=r"a sparse matrix and no labels; .*y=y, \*\*numpy.load\('m.npz'\)"):
        load_source(str(tmp_path / "m.npz"))
    np.savez(tmp_path / "with.npz", y=np.arange(N) % 3, **np.load(tmp_path / "m.npz"))
    raw = load_source(str(tmp_path / "with.npz"))
    assert np.array_equal(raw.x, dense) and raw.classes == 3
    huge = {**np.load(tmp_path / "m.npz"), "shape": np.array([10**6, 10**5]), "y": np.zeros(10**6, int)}
    np.savez(tmp_path / "huge.npz", **huge)
    with pytest.raises(DataError, match="takes 800 GB written out"):
        load_source(str(tmp_path / "huge.npz"))


@pytest.mark.parametrize("factor", [1e300, 1e-320])
def test_a_deviation_that_no_float_holds_is_refused_with_the_column(factor: float, tmp_path: Path) -> None:
    source = csv(tmp_path, FRAME.assign(wild=RNG.choice([1.0, 2.0, 3.5], N) * factor))
    with pytest.raises(DataError, match=r"column 'wild' goes from .* its standard deviation is (inf|0|nan)"):
        build_population(DataConfig(source=source, clients=3), 0)


def test_a_private_record_beyond_single_precision_is_refused(tmp_path: Path) -> None:
    x = RNG.normal(size=(N, 1))
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(N) % 2)
    data = DataConfig(source=str(tmp_path / "t.npz"), clients=3)
    before = build_population(data, 0)
    first = before.take(np.arange(1))[0] * before.preprocessing["scale"][0] + before.preprocessing["mean"][0]
    x[np.abs(x - first).argmin()] = 1e200
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(N) % 2)
    with pytest.raises(DataError, match="so far from the public sample"):
        build_population(data, 0)


def test_records_of_elsewhere_keep_their_names_whatever_their_order(tmp_path: Path) -> None:
    def frame(levels: list[str], classes: list[str]) -> pd.DataFrame:
        kinds = RNG.choice(levels, N)
        return pd.DataFrame({"kind": kinds, "a": [float(len(k)) for k in kinds], "y": RNG.choice(classes, N)})

    own, other = tmp_path / "own.csv", tmp_path / "other.csv"
    frame(["red", "green", "violet"], ["no", "yes"]).to_csv(own, index=False)
    frame(["violet", "red"], ["yes"]).assign(y=["yes", "no"] * (N // 2))[["y", "a", "kind"]].to_csv(other, index=False)
    data = DataConfig(source=str(own), clients=3)
    names = build_population(data, 0).schema.feature_names
    x, y = foreign_sample(data, 0, str(other), (), 50)
    length = {"kind=red": 3, "kind=green": 5, "kind=violet": 6}
    shown = [length[names[int(k)]] for k in x[:, :3].argmax(axis=1)]
    assert names[:3] == ("kind=green", "kind=red", "kind=violet") and len(np.unique(shown)) == 2
    assert np.corrcoef(shown, x[:, 3])[0, 1] > 0.999 and set(y) == {0, 1}
    frame(["red"], ["maybe"]).assign(y=["maybe", "no"] * (N // 2)).to_csv(other, index=False)
    with pytest.raises(DataError, match="has the class 'maybe'"):
        foreign_sample(data, 0, str(other), (), 50)


@pytest.mark.parametrize(
    ("name", "packed", "said"),
    [("t.csv", True, "is compressed by gzip: rename it to t.csv.gz"), ("t.csv.gz", False, "is no gzip file, though")],
)
def test_a_table_whose_name_says_otherwise_is_refused_with_the_remedy(
    name: str, packed: bool, said: str, tmp_path: Path
) -> None:
    text = FRAME.to_csv(index=False).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if packed else text)
    with pytest.raises(DataError, match=said):
        load_source(str(tmp_path / name))
