"""Arms and trainings side by side: the same results as one after the other, whoever dies meanwhile."""

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from simulator.cluster import ClusterError, ray_session
from simulator.grids import RayGrid, SerialGrid
from simulator.progress import Silent
from simulator.runner import prepare, simulate
from simulator.scenario import Scenario
from tests.scenarios import small_scenario


@pytest.fixture(scope="module")
def grid() -> Iterator[RayGrid]:
    """Two hosts for all tests of this file."""
    with ray_session(hosts=2):
        grid = RayGrid(2)
        yield grid
        grid.close()


class Heard(Silent):
    """Stages, and how far they came."""

    def __init__(self) -> None:
        self.stages: Counter[str] = Counter()
        self._name = ""

    def stage(self, name: str, total: int | None) -> None:
        """Remember where the run is."""
        self._name = name
        self.stages[name] += 0

    def advance(self, steps: int = 1) -> None:
        """Count."""
        self.stages[self._name] += steps


def _several(**changes: Any) -> Scenario:
    """Arms that share a training, some with what is kept on disk or solved for; the last ones share none with them."""
    return small_scenario(
        **{
            "variant": [
                {"name": "softmax", "model": {"kind": "softmax"}, "deletion": {"level": "client"}},
                {"name": "ridge", "model": {"kind": "ridge"}, "training": {"algorithm": "closed-form"}},
            ],
            "unlearning": [
                {"method": "retrain", "only": ["softmax"]},
                {"method": "federaser", "only": ["softmax"]},
                {"method": "downdate", "only": ["ridge"]},
            ],
            "evaluation": {"relearning": 2, "retrainings": 2},
        }
        | changes
    )


def _results(scenario: Scenario, directory: Path, grid: RayGrid | SerialGrid, heard: Heard | None = None) -> Any:
    """``results.json`` without what depends on the clock and on a process's memory."""
    directory.mkdir(parents=True)
    results = simulate(scenario, prepare(scenario), directory, grid, heard)
    assert results == json.loads((directory / "results.json").read_text())
    assert not list(directory.glob("checkpoints/*"))
    for arm in results["arms"]:
        for entry in (arm["cost"], *arm["attacks"].values()):
            for name in [name for name in entry if "seconds" in name or name == "peak_memory_bytes"]:
                del entry[name]
    return results


def test_arms_side_by_side_find_what_arms_in_turn_find(grid: RayGrid, tmp_path: Path) -> None:
    heard = Heard()
    beside = _results(_several(), tmp_path / "ray", grid, heard)
    assert heard.stages["Arms side by side"] == 3
    assert beside == _results(_several(), tmp_path / "serial", SerialGrid())


def test_trainings_side_by_side_find_what_trainings_in_turn_find(grid: RayGrid, tmp_path: Path) -> None:
    scenario, heard = _several(seeds=[0, 1], runtime={"block_size": 2}), Heard()
    beside = _results(scenario, tmp_path / "ray", grid, heard)
    assert heard.stages["Trainings side by side"] == 6
    assert beside == _results(scenario, tmp_path / "serial", SerialGrid())


def test_all_that_an_arm_writes_to_the_ledger_is_there_in_its_order(grid: RayGrid, tmp_path: Path) -> None:
    for name, place in (("ray", grid), ("serial", SerialGrid())):
        _results(_several(), tmp_path / name, place)
    entries = [
        [json.loads(line) for line in (tmp_path / name / "ledger.jsonl").read_text().splitlines()]
        for name in ("ray", "serial")
    ]
    ray, serial = ([(e["arm"], e["event"], e["request"]) for e in own] for own in entries)
    assert [e for e in ray if e[0].startswith("ridge")] == [e for e in serial if e[0].startswith("ridge")]
    assert sorted(map(str, ray)) == sorted(map(str, serial))


@pytest.mark.parametrize("seeds", [[0], [0, 1]], ids=["arms", "trainings"])
def test_a_host_killed_over_its_work_changes_no_bit(grid: RayGrid, tmp_path: Path, seeds: list[int]) -> None:
    scenario, before = _several(seeds=seeds), grid.replaced
    killed: list[int] = []
    killer = threading.Thread(target=_kill_a_host_at_work, args=(killed,))
    killer.start()
    beside = _results(scenario, tmp_path / "ray", grid)
    killer.join()
    assert killed, "no host was seen at work"
    assert grid.replaced == before + 1
    assert beside == _results(scenario, tmp_path / "serial", SerialGrid())


def _kill_a_host_at_work(killed: list[int]) -> None:
    """Kill a host, as the kernel would, a moment after it has begun something that it does by itself."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not killed:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "".join(process.cmdline()).startswith("ray::_RayHost.do"):
                    time.sleep(0.05)
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    break
        time.sleep(0.002)


def test_what_a_piece_raises_arrives(grid: RayGrid) -> None:
    assert sorted(grid.each(int, ["5", "6", "7"])) == [(0, 5), (1, 6), (2, 7)]
    with pytest.raises(ValueError, match="invalid literal"):
        list(grid.each(int, ["5", "five"]))


def test_work_that_kills_hosts_is_given_up(grid: RayGrid) -> None:
    with pytest.raises(ClusterError, match="3 hosts died over the same work"):
        list(grid.each(os._exit, [1]))
