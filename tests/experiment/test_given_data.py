"""Runs on data that a Python program hands over, and requests that name a client."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from palimpsest.simulator import Dataset, resume, run
from palimpsest.simulator.experiment.runner import prepare
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario, scenario_from_dict
from palimpsest.simulator.world.data.datasets import load_source
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.protocols.events import Noted, Silent, StageBegan
from tests.support.scenarios import untracked
from tests.support.stores import new_store

pytestmark = pytest.mark.mlflow

RNG = np.random.default_rng(4)
N = 160
X = RNG.normal(size=(N, 4))
Y = np.where(X[:, 0] > 0, "warm", "cold")
WARD = RNG.choice(["east", "west"], N)


class Pairs(torch.utils.data.Dataset[Any]):
    """Images and classes, as torchvision has them."""

    classes = ("a", "b")

    def __len__(self) -> int:
        return 12

    def __getitem__(self, k: int) -> tuple[torch.Tensor, int]:
        if k >= len(self):
            raise IndexError(k)
        return torch.full((1, 5, 6), k / 12), k % 2


class Listener(Silent):
    """Keeps the notes, and where stages begin."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage_began(self, event: StageBegan) -> None:
        self.notes.append(f"stage {event.name}")

    def noted(self, event: Noted) -> None:
        self.notes.append(event.text)


def small(tmp_path: Path, **changes: Any) -> Scenario:
    base: dict[str, Any] = {
        "name": "small",
        "data": {"partition": {"scheme": "natural"}},
        "training": {"rounds": 1, "clients_per_round": 0},
        "deletion": {"request": [{"client": "west", "records": [0, 2]}]},
        "unlearning": [{"method": "ascent"}],
        "attack": [{"kind": "hrec"}],
        "runtime": {"backend": "serial"},
        "tracking": {"uri": new_store(tmp_path)},
    }
    return scenario_from_dict(base | changes)


def test_a_run_on_arrays_is_what_it_is_on_a_file_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    listener = Listener()
    data = Dataset.from_arrays(X, Y, client=WARD)
    given = run(small(tmp_path), tmp_path / "given", listener, data=data)
    first = listener.notes.index("stage Starting hosts")
    assert listener.notes[0].startswith("data      given: 160 records") and "east (" in "".join(listener.notes[:first])
    np.savez(tmp_path / "file.npz", x=X, y=Y, client=WARD)
    source = {"source": str(tmp_path / "file.npz"), "partition": {"scheme": "natural"}}
    stored = untracked(small(tmp_path, data=source), tmp_path / "stored")
    [one], [other] = given.results["arms"], json.loads(stored.results_file.read_text())["arms"]
    assert one["transcript_digest"] == other["transcript_digest"]
    assert one["data"]["class_names"] == ["cold", "warm"]
    with pytest.raises(ScenarioError, match=r"begun with data from a Python program: .*resume\(directory, data=...\)"):
        resume(tmp_path / "given")
    with pytest.raises(ScenarioError, match="begun with other data"):
        resume(tmp_path / "given", data=Dataset.from_arrays(X + 1, Y, client=WARD))
    with pytest.raises(ScenarioError, match="leave data out"):
        resume(tmp_path / "stored", data=data)
    (tmp_path / "given" / "arms" / f"{one['arm']}.json").unlink()
    again = resume(tmp_path / "given", data=data)
    assert again.results["arms"][0]["transcript_digest"] == one["transcript_digest"]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"data": {"source": "synthetic:mnist-like", "records_per_client": 7}}, "records_per_client = 7 is for source"),
        ({"adversary": {"public_source": "digits"}, "data": {}}, "write the data to an .npz file"),
    ],
)
def test_a_scenario_that_says_other_things_of_the_data_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    scenario = small(tmp_path, deletion={"requests": 1}, **changes)
    with pytest.raises(ScenarioError, match=said):
        run(scenario, tmp_path / "out", data=Dataset.from_arrays(X, Y, client=WARD))
    assert not (tmp_path / "out").exists()


def test_a_name_of_given_data_without_the_data_is_answered_in_one_sentence() -> None:
    with pytest.raises(DataError, match=r"give them again by run\(scenario, data=...\)"):
        load_source(f"given:{'0' * 64}")


def test_a_data_frame_keeps_its_names_and_its_categories() -> None:
    frame = pd.DataFrame({"a": X[:, 0], "sex": RNG.choice(["F", "M"], N), "flag": X[:, 1] > 0})
    raw = load_source(Dataset.from_arrays(frame, pd.Series(Y)).remember())
    assert raw.feature_names == ("a", "sex", "flag") and raw.levels == {1: ("F", "M")}
    with pytest.raises(DataError, match="column 'day' holds dates"):
        Dataset.from_arrays(frame.assign(day=pd.date_range("2020-01-01", periods=N)), Y)
    with pytest.raises(DataError, match="an array holds float, str"):
        Dataset.from_arrays(np.array([[1.0, "a"]] * N, dtype=object), Y)


def test_a_torch_data_set_is_read_record_by_record() -> None:
    raw = load_source(Dataset.from_torch(Pairs()).remember())
    assert raw.x.shape == (12, 5, 6, 1) and np.allclose(raw.x[:, 0, 0, 0], np.arange(12) / 12)
    assert raw.class_names == ("a", "b") and raw.y.tolist() == [0, 1] * 6
    with pytest.raises(DataError, match=r"data set of \(input, target\) pairs"):
        Dataset.from_torch([torch.zeros(3)] * 4)
    with pytest.raises(DataError, match="inputs have shapes"):
        Dataset.from_torch([(torch.zeros(3), 0), (torch.zeros(4), 1)])


def test_a_data_set_of_the_hub_is_taken_as_it_is_loaded() -> None:
    pixels = RNG.integers(0, 256, (4, 5, 6), dtype=np.uint8)
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    part = datasets.Dataset.from_dict({"image": list(pixels), "label": [0, 1, 0, 1]}, features=kinds)
    both = Dataset.from_hub(datasets.DatasetDict(train=part, test=part.select([0])))
    raw = load_source(both.remember())
    assert np.array_equal(raw.x, pixels[[0, 1, 2, 3, 0]]) and raw.class_names == ("a", "b")
    assert raw.split is not None and raw.split.tolist() == [0, 0, 0, 0, 1]
    assert load_source(Dataset.from_hub(part).remember()).split is None


def test_requests_name_natural_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "file.npz", x=X, y=Y, client=WARD)

    def forgotten(request: dict[str, Any], **changes: Any) -> Any:
        data = {"source": str(tmp_path / "file.npz"), "partition": {"scheme": "natural"}} | changes
        return prepare(small(tmp_path, data=data, deletion={"request": [request]}))[0].requests[0].forget

    assert forgotten({"client": "west", "records": [1]}) == forgotten({"client": 1, "records": [1]}) == {1: (1,)}
    with pytest.raises(ScenarioError, match=r"request.0.client = 'wst': .* did you mean 'west'\? the data name east"):
        forgotten({"client": "wst", "records": [1]})
    with pytest.raises(ScenarioError, match=r"clients have no names; give them some as data\.client_names"):
        forgotten({"client": "west", "records": [1]}, partition={"scheme": "iid"}, clients=4)
    for wrong in (-1, True, "", 1.5):
        with pytest.raises(ScenarioError, match=r"deletion.request.0.client.*must be a client's number, from 0,"):
            forgotten({"client": wrong, "records": [1]})
    np.savez(tmp_path / "file.npz", x=X, y=Y, client=np.where(WARD == "east", 101, 7))
    assert forgotten({"client": "101", "records": [1]}) == {1: (1,)}
