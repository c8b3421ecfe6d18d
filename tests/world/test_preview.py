"""The preview: what was understood of the data, counted against the data themselves, within 80 columns."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.planning.previews import of_plan
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.world.data.build import build_population, load_population
from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.preview import Preview
from palimpsest.simulator.world.data.preview_text import lines
from palimpsest.simulator.world.data.sites import open_site, save_site

PATHOLOGICAL = {"source": "digits", "clients": 5, "partition": {"scheme": "pathological", "classes_per_client": 2}}


def previewed(data: dict[str, Any]) -> Preview:
    preview = build_population(DataConfig.model_validate(data), 0).preview
    assert preview is not None
    return preview


def patients(directory: Path, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    n = 200
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 60, n),
            "sex": rng.choice(["F", "M"], n),
            "smokes": rng.choice([0, 1], n),
            "ward": rng.choice(["north", "south"], n, p=[0.3, 0.7]),
            "outcome": rng.choice(["ill", "well"], n, p=[0.2, 0.8]),
        }
    )
    frame.loc[:9, "age"] = np.nan
    frame.to_csv(directory / "patients.csv", index=False)
    columns = {"target": "outcome", "client": "ward"}
    natural = {"scheme": "natural"}
    base = {"source": str(directory / "patients.csv"), "columns": columns, "partition": natural, "missing": "mean"}
    return base | changes


def test_records_that_pathological_clients_do_not_hold_are_counted_with_their_classes() -> None:
    preview = previewed(PATHOLOGICAL)
    [dropped] = [note for note in preview.notes if note.kind == "dropped"]
    assert (preview.private, dropped.count) == (535, 899 - 535)
    assert "of the classes 5, 7, 8, 9" in dropped.text and "gives to none of 5 clients" in dropped.text
    assert preview.private + preview.public + preview.test + dropped.count == preview.records == 1797


def test_a_table_is_shown_by_kinds_of_columns_levels_clients_and_what_was_filled_in(tmp_path: Path) -> None:
    preview = previewed(patients(tmp_path))
    frame = pd.read_csv(tmp_path / "patients.csv")
    kinds = {column.name: (column.kind, column.levels, column.missing) for column in preview.columns}
    assert kinds == {
        "age": ("number", (), 10),
        "sex": ("category", ("F", "M"), 0),
        "smokes": ("zero or one", (), 0),
    }
    assert dict(preview.classes) == frame["outcome"].value_counts().to_dict()
    assert [name for name, _ in preview.listed] == ["north", "south"]
    assert sum(size for _, size in preview.listed) == preview.private
    shown = "\n".join(lines(preview))
    for part in (
        "sex (F, M)",
        f"age {frame['age'].min():g} to {frame['age'].max():g}",
        "filled in 10 values: column 'age'",
        "ill (",
        "north (",
        "4 after encoding",
    ):
        assert part in shown
    assert max(map(len, lines(preview))) <= 80


@pytest.mark.parametrize(
    "changes, noted",
    [
        (
            {"partition": {"scheme": "iid"}, "clients": 5},
            ("warning", "names 2 clients, and partition.scheme = 'iid'", 0),
        ),
        ({"sites": ["north"]}, ("dropped", "of other sites", -1)),
        ({"missing": "drop"}, ("dropped", "no value in 'age'", 10)),
    ],
)
def test_what_is_left_out_is_said(changes: dict[str, Any], noted: tuple[str, str, int], tmp_path: Path) -> None:
    frame = pd.read_csv(str(patients(tmp_path)["source"]))
    count = int((frame["ward"] == "south").sum()) if noted[2] < 0 else noted[2]
    notes = [(note.kind, note.text, note.count) for note in previewed(patients(tmp_path, **changes)).notes]
    assert any(kind == noted[0] and noted[1] in text and so_many == count for kind, text, so_many in notes), notes


def test_test_records_of_the_source_that_nobody_uses_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "t.npz", x=rng.normal(size=(100, 2)), y=np.arange(100) % 4 + 1, split=np.arange(100) % 2)
    preview = previewed({"source": str(tmp_path / "t.npz"), "clients": 3, "test_fraction": 0.1})
    assert preview.private + preview.public + preview.test + 40 == 100
    assert any(note.kind == "dropped" and note.count == 40 for note in preview.notes)
    assert any(note.kind == "warning" and note.text == "no record has the class 0" for note in preview.notes)


def test_every_source_has_one_that_comes_back_from_disk_and_no_site_is_told(tmp_path: Path) -> None:
    for number, source in enumerate(("digits", "diabetes", "breast-cancer", "synthetic:mnist-like")):
        regression = source == "diabetes"
        data = DataConfig.model_validate(
            {"source": source, "clients": 4, **({"partition": {"scheme": "iid"}} if regression else {})}
        )
        made, again = build_population(data, 0), load_population(data, 0, tmp_path)
        assert made.preview is not None and made.preview == again.preview
        assert load_population(data, 0, tmp_path).preview == made.preview
        assert max(map(len, lines(made.preview))) <= 80
        save_site(made, "name", 0, 2, tmp_path / f"site-{number}")
        assert open_site(tmp_path / f"site-{number}", "name").preview is None


def test_a_plan_shows_each_configuration_of_the_data_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path))
    variants = [
        {"name": "few", "data": {"clients": 4}},
        {"name": "many", "data": {"clients": 40}},
        {"name": "few-ridge", "data": {"clients": 4}, "model": {"kind": "ridge"}},
    ]
    data = {"source": "digits", "clients": 8}
    scenario = scenario_from_dict(
        {"name": "x", "seeds": [3, 4], "data": data, "training": {"clients_per_round": 2}, "variant": variants}
    )
    shown = of_plan(plan(scenario))
    assert [line.split()[1] for line in shown if line.startswith("variant")] == ["few", "many"]
    assert len([line for line in shown if line.startswith("seeds     3, 4: ")]) == 2
