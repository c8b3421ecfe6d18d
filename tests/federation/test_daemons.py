"""Ray's daemons that die: nothing waits for them, and nothing of that Ray is left."""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import psutil
import pytest
import ray
from ray._private import worker
from ray._private.utils import publish_error_to_driver

from palimpsest.simulator.federation import daemons
from palimpsest.simulator.federation.cluster import ClusterError, ray_session
from palimpsest.simulator.federation.daemons import DaemonError
from palimpsest.simulator.federation.guardian import Guardian
from palimpsest.simulator.federation.ray_grid import RayGrid
from palimpsest.simulator.world import signals


@ray.remote
class Sleeper:
    """A host that works for long."""

    def sleep(self, seconds: float) -> float:
        """Work."""
        time.sleep(seconds)
        return seconds


def caught() -> set[int]:
    """Signals that this process has a handler for, as the system sees it: libraries set some beneath Python."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("SigCgt")]
    bits = int(line.split()[1], 16)
    return {number for number in signals.ENDING if bits >> (number - 1) & 1}


@pytest.mark.ray
@pytest.mark.slow
def test_handlers_of_signals_outlive_a_ray() -> None:
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    try:
        for number in signals.ENDING:
            signal.signal(number, signal.default_int_handler)
        with ray_session(hosts=1):
            assert caught() == set(signals.ENDING)
            assert set(worker._global_node.all_processes) == {"gcs_server", "raylet"}, "no other daemon has a use here"
            end = worker._global_node.kill_all_processes
            while_ending: list[set[int]] = []
            worker._global_node.kill_all_processes = lambda *given, **named: (
                while_ending.append(caught()),
                end(*given, **named),
            )
        assert while_ending == [set(signals.ENDING)], "ending the daemons takes a second"
        assert caught() == set(signals.ENDING)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.ray
@pytest.mark.slow
def test_hosts_that_ray_ends_where_memory_is_full_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.0001")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    with ray_session(hosts=1):
        grid = RayGrid(1)
        with pytest.raises(ClusterError, match=r"^3 hosts died over the same work \(out of memory\? With fewer"):
            list(grid.each(time.sleep, deque([600.0])))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_a_dead_daemon_ends_the_waiting_and_leaves_nothing(victim: str) -> None:
    before = daemons.ids()
    with pytest.raises(DaemonError, match=f"{victim}, a process of Ray, .*fewer runtime.hosts"), ray_session(hosts=1):
        sleeper = Sleeper.remote()
        assert daemons.got(sleeper.sleep.remote(0.0)) == 0.0
        [daemon] = worker._global_node.all_processes[victim]  # other processes may bear its name
        working = sleeper.sleep.remote(600.0)
        assert daemons.ready([working], timeout=0.5) == []
        daemon.process.kill()
        daemons.got(working)
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert psutil.wait_procs(left, timeout=10)[1] == []


def runs(process: psutil.Process) -> bool:
    """Whether it does; who has nobody to wait for it stays a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


DRIVER = """
import time
from collections import deque
from palimpsest.simulator.federation.cluster import ray_session
from palimpsest.simulator.federation.ray_grid import RayGrid
with ray_session(hosts=1):
    grid = RayGrid(1)
    grid.await_hosts()
    print("ready", flush=True)
    list(grid.each(time.sleep, deque([600.0])))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_nothing_of_a_ray_outlives_a_driver_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"ready\n"
        time.sleep(3.0)  # what Ray has started since is looked for every two seconds
        started = psutil.Process(driver.pid).children(recursive=True)
        assert {"raylet", "ray::DashboardAgent"} <= {process.name() for process in started}
        driver.kill()
    deadline = time.monotonic() + 20.0
    while (left := [process for process in started if runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


@pytest.mark.ray
@pytest.mark.slow
def test_what_daemons_have_to_say_does_not_fill_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with ray_session(hosts=1):
        publish_error_to_driver("raylet_died", "twenty lines of a log", gcs_client=worker.global_worker.gcs_client)
        time.sleep(2.0)
    assert "twenty lines" not in "".join(capfd.readouterr())


def test_a_child_that_bears_a_daemons_name_is_not_the_daemon(tmp_path: Path) -> None:
    raylet = shutil.copy(shutil.which("bash") or "", tmp_path / "raylet")
    before = daemons.ids()
    with subprocess.Popen([raylet, "-c", "(sleep 600; true) & wait; sleep 600"]) as parent:
        deadline = time.monotonic() + 30.0
        while not (forked := [p for p in psutil.Process(parent.pid).children() if p.name() == "raylet"]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with Guardian() as guardian:
            watch = daemons.local(before, guardian)
            try:
                forked[0].kill()
                psutil.wait_procs(forked, timeout=10)
                watch.note()
                assert watch.lost == ""
                parent.kill()
                parent.wait()
                watch.note()
                assert watch.lost.startswith("raylet, a process of Ray")
            finally:
                watch.close()
                parent.kill()


def test_a_cluster_whose_address_falls_silent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons, "_PROBE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        watch = daemons.remote(address)
        time.sleep(1.0)
        watch.check()
    deadline = time.monotonic() + 30.0
    while not watch.lost and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(DaemonError, match=f"{address}.*answers no more"):
        watch.check()
    watch.close()
