"""Faulty tables: each is read as a person would expect, or answered by one sentence; none is misread in silence."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palimpsest.simulator.world.data.build import build_population
from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.datasets import load_source
from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.data.reading import Columns, Reading
from palimpsest.simulator.world.errors import DataError
from tests.support.faulty_tables import FAULTS, HOSPITALS, Fault, clean

COLUMNS = Columns(target="outcome", client="hospital")


def written(directory: Path, fault: Fault, frame: pd.DataFrame, rng: np.random.Generator) -> str:
    path = directory / f"patients{fault.suffix}"
    path.write_text(fault.text(frame, rng), encoding="utf-8")
    return str(path)


def said_of(source: str, fault: Fault) -> None:
    with pytest.raises(DataError) as caught:
        load_source(source, Reading(columns=COLUMNS))
    said = str(caught.value)
    assert said.startswith(source) and "\n" not in said and len(said) < 400 + len(source)
    assert fault.said in said


def values_of(raw: Raw, frame: pd.DataFrame) -> None:
    """The clean table's values are all there, under their names, whatever else is."""
    place = {name: k for k, name in enumerate(raw.feature_names)}
    sex = place["sex"]
    assert raw.x[:, place["weight"]].tolist() == frame["weight"].tolist()
    assert [raw.levels[sex][int(code)] for code in raw.x[:, sex]] == frame["sex"].tolist()
    assert [raw.class_names[label] for label in raw.y] == frame["outcome"].tolist()
    assert raw.client is not None and raw.site_names == HOSPITALS
    assert [raw.site_names[client] for client in raw.client] == frame["hospital"].tolist()


def holds(source: str, fault: Fault, frame: pd.DataFrame) -> None:
    raw = load_source(source, Reading(columns=COLUMNS))
    values_of(raw, frame)
    assert any(fault.noted in note.text for note in raw.notes) or not fault.noted
    data = DataConfig.model_validate({"source": source, "columns": COLUMNS, "partition": {"scheme": "natural"}})
    population = build_population(data, 0)
    assert isinstance(population, Population) and population.schema.site_names == HOSPITALS
    wanted = {"age", "weight", "sex=F", "sex=M", *fault.extra}
    assert set(population.schema.feature_names) == wanted


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_refused_in_one_sentence_or_read_as_what_it_plainly_is(name: str, tmp_path: Path) -> None:
    fault, rng = FAULTS[name], np.random.default_rng(len(name))
    frame = clean(rng)
    source = written(tmp_path, fault, frame, rng)
    said_of(source, fault) if fault.said else holds(source, fault, frame)


@pytest.mark.parametrize("seed", range(8))
def test_faults_that_a_seed_draws_are_not_misread(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(100 + seed)
    fault = FAULTS[str(rng.choice(list(FAULTS)))]
    for number in range(4):
        frame = clean(rng)
        (tmp_path / str(number)).mkdir()
        source = written(tmp_path / str(number), fault, frame, rng)
        said_of(source, fault) if fault.said else holds(source, fault, frame)


def test_the_clean_table_is_read_without_a_word(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = clean(rng)
    frame.to_csv(tmp_path / "clean.csv", index=False)
    raw = load_source(str(tmp_path / "clean.csv"), Reading(columns=COLUMNS))
    values_of(raw, frame)
    assert raw.notes == ()


@pytest.mark.parametrize(
    "gap, column", [("?", "age"), ("", "sex"), ("NA", "weight"), ("", "outcome"), ("", "hospital")]
)
def test_records_with_gaps_are_dropped_or_filled_in_and_counted(gap: str, column: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frame = clean(rng)
    cells = frame[column].astype(str).astype(object).to_numpy(copy=True)
    cells[3:9] = gap
    frame.assign(**{column: cells}).to_csv(tmp_path / "gaps.csv", index=False)
    source = str(tmp_path / "gaps.csv")
    dropped = load_source(source, Reading(columns=COLUMNS, missing="drop"))
    values_of(dropped, frame.drop(index=range(3, 9)))
    assert [(note.kind, note.count) for note in dropped.notes] == [("dropped", 6)]
    filled = load_source(source, Reading(columns=COLUMNS, missing="mean"))
    role = column in ("outcome", "hospital")  # nothing can be filled in there
    assert [(note.kind, note.count) for note in filled.notes] == [("dropped" if role else "filled", 6)]
    assert len(filled.y) == len(frame) - 6 * role


def test_gaps_are_filled_in_with_statistics_of_the_public_sample_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    n = 300
    frame = pd.DataFrame({"a": rng.normal(5, 2, n), "b": rng.choice(list("uvw"), n), "y": np.arange(n) % 2})
    frame.loc[rng.permutation(n)[:60], "a"] = np.nan
    frame.loc[rng.permutation(n)[:60], "b"] = None
    frame.to_csv(tmp_path / "t.csv", index=False)
    iid = {"source": str(tmp_path / "t.csv"), "clients": 4, "partition": {"scheme": "iid"}, "missing": "mean"}
    found = build_population(DataConfig.model_validate(iid), 0)
    assert isinstance(found, Population) and found.schema.feature_names == ("a", "b=u", "b=v", "b=w")
    x = np.concatenate([found.train_x, found.public_x, found.test_x])
    assert np.isfinite(x).all() and (x[:, 1:].sum(axis=1) == 1).all()
    assert (x[:, 0] == 0.0).sum() == 60  # the mean, standardised
    public, private = (part[:, 0][part[:, 0] != 0.0] for part in (found.public_x, found.train_x))
    assert np.isclose(public.mean(), 0.0, atol=1e-6) and np.isclose(public.std(), 1.0, atol=1e-6)
    assert abs(private.mean()) > 1e-3
