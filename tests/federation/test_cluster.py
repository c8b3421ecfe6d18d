"""A Ray cluster of several machines (all of them this one, by other names), of which one dies during a round."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.cluster import ClusterError
from palimpsest.simulator.federation.grids import open_grid
from palimpsest.simulator.federation.local_grid import SerialGrid
from tests.support.joining import SCENARIO, die, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

HEAD, SMALL, LARGE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
"""Ray takes 127.0.0.1 for another name of the machine's outward address."""

START = "start --disable-usage-stats --include-log-monitor 0 --block --object-store-memory 100000000 --node-ip-address"
RAY = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3", "RAY_worker_niceness": "0"}
"""The head takes a machine that refuses connections for dead after 3 seconds, not 15; hosts do not make way."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path: names of sockets are, and those of Ray's are long below its directory already."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def environment(place: Path) -> dict[str, str]:
    """Of every process of the cluster, which has a token of its own."""
    (place / "token").write_text(secrets.token_hex(32))
    known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(place / "token")}
    return os.environ | known | RAY


@contextmanager
def _machine(arguments: str, environment: Mapping[str, str], log: Path) -> Iterator[int]:
    """``ray start``, ended with all that it started; yields its process id."""
    command = [str(Path(sys.executable).parent / "ray"), *f"{START} {arguments}".split()]
    with log.open("w") as file:
        process = psutil.Process(subprocess.Popen(command, env=environment, stdout=file, stderr=file).pid)
    try:
        yield process.pid
    finally:
        die(process)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def test_a_machine_lost_during_a_round_changes_no_bit_and_the_last_one_is_missed(
    place: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind((HEAD, 0))
        port = probe.getsockname()[1]
    address = f"{HEAD}:{port}"
    with ExitStack() as stack:
        head = (
            f"{HEAD} --head --no-monitor --port {port} --num-cpus 0 --include-dashboard 0 --temp-dir {place}/{HEAD[-1]}"
        )
        stack.enter_context(_machine(head, environment, tmp_path / "head.log"))
        wait_until(lambda: _listens(HEAD, port))
        machines = []
        # Nobody looks whether there is a GPU. Nodes that start at once in one directory take one another's sockets.
        for own, has in ((SMALL, "--num-cpus 1"), (LARGE, "--num-cpus 2 --num-gpus 1")):
            how = f"{own} --address {address} {has} --temp-dir {place}/{own[-1]}"
            machines.append(stack.enter_context(_machine(how, environment, tmp_path / f"{own}.log")))
        command = [sys.executable, "-m", "tests.support.joining", address, "3", str(tmp_path), *map(str, machines)]
        driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        stack.callback(driver.kill)
        (tmp_path / "serial").mkdir()
        [arm] = simulate(SCENARIO, prepare(SCENARIO), tmp_path / "serial", SerialGrid(1))["arms"]
        said, _ = driver.communicate(timeout=400)
    too_many, sharing, one_lost, all_lost = (json.loads(line) for line in said.splitlines() if line.startswith("{"))
    assert f"runtime.hosts = 4 takes a CPU each, and the Ray cluster at {address} has 3" in too_many["too many"]
    assert sharing["sharing"] == {"left": 0.0}
    assert one_lost["one lost"] == {"digest": arm["transcript_digest"], "replaced": 1, "hosts": 3}
    assert all_lost["all lost"].startswith("ClusterError: a host was lost, and no machine with a CPU is left")


def test_where_no_cluster_answers_one_sentence_says_so() -> None:
    with socket.socket() as probe:
        probe.bind((HEAD, 0))  # and nobody listens
        address = f"{HEAD}:{probe.getsockname()[1]}"
        refused = pytest.raises(ClusterError, match=f"^nothing answers at runtime.ray_address = '{address}'")
        with refused, open_grid("ray", 1, address):
            pass
