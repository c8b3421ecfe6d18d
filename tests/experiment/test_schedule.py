"""Arms and trainings side by side: the same results as one after the other, whoever dies meanwhile."""

import fcntl
import json
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.cluster import ClusterError, ray_session
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.federation.ray_grid import RayGrid
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.protocols.events import ArmDone, RoundDone, Silent, StageBegan
from tests.support.hosts import hosts_titled
from tests.support.scenarios import small_scenario

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def grid() -> Iterator[RayGrid]:
    """Two hosts for all tests of this file."""
    with ray_session(hosts=2):
        grid = RayGrid(2)
        yield grid
        grid.close()


class Heard(Silent):
    """Stages, arms that were done, and rounds of each training and of each arm."""

    def __init__(self) -> None:
        self.stages: list[StageBegan] = []
        self.arms: list[str] = []
        self.rounds: Counter[str] = Counter()

    def stage_began(self, event: StageBegan) -> None:
        """Remember it."""
        self.stages.append(event)

    def round_done(self, event: RoundDone) -> None:
        """Count."""
        self.rounds[event.arm or event.training] += 1

    def arm_done(self, event: ArmDone) -> None:
        """Remember it."""
        self.arms.append(event.arm)


def _several(**changes: Any) -> Scenario:
    """Arms that share a training, some with what is kept on disk or solved for; the last ones share none with them."""
    return small_scenario(
        **{
            "variant": [
                {
                    "name": "softmax",
                    "model": {"kind": "softmax"},
                    "deletion": {"level": "client"},
                    "adversary": {"knows": ["labels"]},  # to find a whole client's takes hrec longer than all the rest
                },
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


SCENARIOS = {"one seed": _several(), "two seeds": _several(seeds=[0, 1])}


def _results(scenario: Scenario, directory: Path, grid: RayGrid | SerialGrid, heard: Heard | None = None) -> Any:
    """``results.json`` without what depends on the clock and on a process's memory."""
    directory.mkdir(parents=True, exist_ok=True)
    results = simulate(scenario, prepare(scenario), directory, grid, heard).to_json()
    assert results == json.loads((directory / "results.json").read_text())
    assert not list(directory.glob("checkpoints/*"))
    for arm in results["arms"]:
        for entry in (arm["cost"], *arm["attacks"].values()):
            for name in [name for name in entry if "seconds" in name or name == "peak_memory_bytes"]:
                del entry[name]
    return results


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path, Heard]]:
    """Of two scenarios what there is to be found, one arm after the other, where, and what was told."""
    found = {}
    for name, scenario in SCENARIOS.items():
        directory, heard = tmp_path_factory.mktemp("serial") / name, Heard()
        found[name] = _results(scenario, directory, SerialGrid(), heard), directory, heard
    return found


@pytest.mark.parametrize("name", ["one seed", "two seeds"])
def test_side_by_side_one_finds_what_one_finds_in_turn(
    grid: RayGrid, tmp_path: Path, in_turn: dict[str, tuple[Any, Path, Heard]], name: str
) -> None:
    heard, (expected, elsewhere, told) = Heard(), in_turn[name]
    assert _results(SCENARIOS[name], tmp_path / "out", grid, heard) == expected
    assert heard.stages == [StageBegan("Arms side by side", len(expected["arms"]), "arms")]
    assert sorted(heard.arms) == sorted(told.arms)
    assert heard.rounds == told.rounds
    assert _by_arm(tmp_path / "out") == _by_arm(elsewhere)


def _by_arm(directory: Path) -> dict[str, list[tuple[str, int]]]:
    """What is in the ledger, of each arm in its order."""
    found: dict[str, list[tuple[str, int]]] = {}
    for line in (directory / "ledger.jsonl").read_text().splitlines():
        entry = json.loads(line)
        found.setdefault(entry["arm"], []).append((entry["event"], entry["request"]))
    return found


@pytest.mark.parametrize("name", ["one seed", "two seeds"])
def test_a_host_killed_over_its_work_changes_no_bit(
    grid: RayGrid, tmp_path: Path, in_turn: dict[str, tuple[Any, Path, Heard]], name: str
) -> None:
    before = grid.replaced
    killed: list[int] = []
    killer = threading.Thread(target=_kill_a_host_at_work, args=(killed,))
    killer.start()
    found = _results(SCENARIOS[name], tmp_path / "out", grid)
    killer.join()
    assert killed, "no host was seen at work"
    assert grid.replaced == before + 1
    assert found == in_turn[name][0]


def _kill_a_host_at_work(killed: list[int]) -> None:
    """Kill a host, as the kernel would, a moment after it has begun something that it does by itself."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not killed:
        for process in hosts_titled("ray::RayHost.do")[:1]:
            time.sleep(0.05)
            os.kill(process, signal.SIGKILL)
            killed.append(process)
        time.sleep(0.002)


def test_a_training_that_diverges_leaves_nothing_on_disk(grid: RayGrid, tmp_path: Path) -> None:
    usual: dict[str, Any] = {"rounds": 3, "clients_per_round": 3, "batch_size": 32}
    some_diverge = small_scenario(
        variant=[{"name": "usual"}, {"name": "diverges", "training": usual | {"learning_rate": 1e30}}],
        deletion={"requests": 2, "level": "client"},
        unlearning=[{"method": "federaser"}],  # it keeps clients' updates on disk
        evaluation={"retrainings": 0},
    )
    arms = _results(some_diverge, tmp_path / "out", grid)["arms"]
    assert {arm["variant"]: "diverged" in arm for arm in arms} == {"usual": False, "diverges": True}


def test_what_a_piece_raises_arrives(grid: RayGrid) -> None:
    assert sorted(grid.each(int, deque(["5", "6", "7"]))) == [("5", 5), ("6", 6), ("7", 7)]
    with pytest.raises(ValueError, match="invalid literal"):
        list(grid.each(int, deque(["5", "five"])))


def test_work_that_kills_hosts_is_given_up(grid: RayGrid) -> None:
    with pytest.raises(ClusterError, match="3 hosts died over the same work"):
        list(grid.each(os._exit, deque([1])))


def test_a_run_waits_for_hosts_that_an_interrupted_one_has_left(tmp_path: Path) -> None:
    """They would write to the same files."""
    directory, ended = tmp_path / "out", []
    directory.mkdir()
    short = small_scenario(unlearning=[{"method": "none"}], evaluation={"retrainings": 0})
    with (directory / ".hosts").open("a") as left:
        fcntl.flock(left, fcntl.LOCK_SH)
        run = threading.Thread(target=lambda: ended.append(_results(short, directory, SerialGrid())))
        run.start()
        run.join(1.0)
        assert not ended
        assert not (directory / "ledger.jsonl").exists()
    run.join(60.0)
    assert len(ended) == 1
