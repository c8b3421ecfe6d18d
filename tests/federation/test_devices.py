"""Where hosts compute: what is chosen, what is said, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.devices import Device, DeviceError, choose
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.scenario.load import Scenario, ScenarioError, scenario_from_dict
from palimpsest.simulator.world.protocols.events import Noted, Silent

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")


class Notes(Silent):
    """Keeps the lines that a user would see."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def noted(self, event: Noted) -> None:
        self.lines.append(event.text)


def _scenario(device: str) -> Scenario:
    return scenario_from_dict(
        {
            "name": "device",
            "data": {"source": "digits", "clients": 4},
            "training": {"rounds": 1, "clients_per_round": 2},
            "deletion": {"requests": 1},
            "unlearning": [{"method": "ascent"}],
            "attack": [{"kind": "average"}],
            "runtime": {"device": device},
        }
    )


@pytest.mark.parametrize(
    "wanted, has_gpu, chosen",
    [
        ("auto", {2: True, 3: True}, "cuda"),
        ("auto", {2: True, 3: False}, "cpu"),
        ("auto", {2: False}, "cpu"),
        ("cuda", {2: True, 3: True}, "cuda"),
        ("cpu", {2: True}, "cpu"),
    ],
)
def test_one_device_serves_all_hosts(wanted: Device, has_gpu: dict[int, bool], chosen: str) -> None:
    assert choose(wanted, has_gpu) == chosen


def test_gpus_that_some_hosts_lack_are_refused() -> None:
    with pytest.raises(DeviceError, match=r"^runtime.device = 'cuda', and PyTorch finds no GPU on 1 of 2 hosts: take"):
        choose("cuda", {2: True, 3: False})


@without_gpu
def test_without_a_gpu_auto_runs_on_the_cpu_and_says_so_once(tmp_path: Path) -> None:
    results = {}
    for device in ("cpu", "auto"):
        notes = Notes()
        (tmp_path / device).mkdir()
        scenario = _scenario(device)
        results[device] = simulate(scenario, prepare(scenario), tmp_path / device, SerialGrid(2), notes)
    assert notes.lines == ["hosts compute on the CPU (runtime.device = 'auto'): PyTorch finds no GPU"]
    [plain], [chosen] = (found["arms"] for found in results.values())
    assert plain["transcript_digest"] == chosen["transcript_digest"]
    assert {found["machine"]["device"] for found in results.values()} == {"cpu"}


@without_gpu
def test_without_a_gpu_cuda_is_refused_before_the_first_round(tmp_path: Path) -> None:
    scenario = _scenario("cuda")
    with pytest.raises(DeviceError, match=r"^runtime.device = 'cuda', and PyTorch finds no GPU: take 'auto' or 'cpu'"):
        simulate(scenario, prepare(scenario), tmp_path, SerialGrid(1))
    assert not any(tmp_path.iterdir())


@without_gpu
def test_a_run_that_was_begun_on_a_gpu_is_not_finished_elsewhere(tmp_path: Path) -> None:
    scenario = _scenario("auto")
    (tmp_path / "provenance.json").write_text(json.dumps({"device": "cuda"}))
    with pytest.raises(ScenarioError, match=r"was begun on 'cuda', and runtime.device = 'auto' is 'cpu' here"):
        simulate(scenario, prepare(scenario), tmp_path, SerialGrid(1))
