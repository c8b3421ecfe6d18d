"""Ray's daemons that die: nothing waits for them, and nothing of that Ray is left."""

import socket
import time

import psutil
import pytest
import ray

from palimpsest.simulator.federation import daemons
from palimpsest.simulator.federation.cluster import ray_session
from palimpsest.simulator.federation.daemons import DaemonError


@ray.remote
class Sleeper:
    """A host that works for long."""

    def sleep(self, seconds: float) -> float:
        """Work."""
        time.sleep(seconds)
        return seconds


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_a_dead_daemon_ends_the_waiting_and_leaves_nothing(victim: str) -> None:
    before = daemons.ids()
    with pytest.raises(DaemonError, match=f"{victim}, a process of Ray, .*fewer runtime.hosts"), ray_session(hosts=1):
        sleeper = Sleeper.remote()
        assert daemons.got(sleeper.sleep.remote(0.0)) == 0.0
        [process] = [child for child in psutil.Process().children(recursive=True) if child.name() == victim]
        working = sleeper.sleep.remote(600.0)
        assert daemons.ready([working], timeout=0.5) == []
        process.kill()
        daemons.got(working)
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert psutil.wait_procs(left, timeout=10)[1] == []


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
