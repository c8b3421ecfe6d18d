"""Runs on a Ray cluster that loses its machines: ``python -m tests.support.joining ADDRESS CPUS DIRECTORY PID PID``.

A process of its own, as Ray settles once a process how it shows who it is. Prints what became of each try, as JSON.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import ray

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.cluster import ray_session
from palimpsest.simulator.federation.grids import open_grid
from palimpsest.simulator.federation.ray_grid import RayGrid
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.protocols.events import RoundDone, Silent

SCENARIO = scenario_from_dict(
    {
        "name": "cluster",
        "data": {"source": "digits", "clients": 12},
        "training": {"rounds": 3, "clients_per_round": 12, "local_epochs": 20, "batch_size": 2},
        "deletion": {"requests": 1},
        "unlearning": [{"method": "ascent"}],
        "attack": [{"kind": "average"}],
        "evaluation": {"retrainings": 1},
        "runtime": {"block_size": 2},
    }
)


class Killer(Silent):
    """Told of rounds as a user is, it takes a machine away while its host trains in the round after the first."""

    def __init__(self, machine: int) -> None:
        self.machine = psutil.Process(machine)
        self.thread = threading.Thread(target=self._kill)

    def round_done(self, event: RoundDone) -> None:
        """A model was released."""
        if not event.arm and event.round == 1:
            self.thread.start()

    def _kill(self) -> None:
        wait_until(self._at_work)
        die(self.machine)

    def _at_work(self) -> bool:
        """Ray names a worker after the call that it is in."""
        for process in self.machine.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "".join(process.cmdline()).startswith("ray::RayHost.handle"):
                    return True
        return False


def die(machine: psutil.Process) -> None:
    """All of it at once and without a word, as when the current fails."""
    with contextlib.suppress(psutil.NoSuchProcess):
        everything = [machine, *machine.children(recursive=True)]
        for process in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everything, timeout=10)


def wait_until(holds: Callable[[], bool]) -> None:
    """Look twenty times a second, for two minutes at most."""
    deadline = time.monotonic() + 120
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("not within two minutes")
        time.sleep(0.05)


def main(address: str, cpus: int, directory: Path, machines: list[int]) -> None:
    """Ask for too many hosts, let two share a GPU, lose one machine, lose the other."""
    with ray_session(0, address):
        wait_until(lambda: ray.cluster_resources().get("CPU") == cpus)
    _say("too many", lambda: _open(address, cpus + 1))
    _say("sharing", lambda: _share(address))
    with open_grid("ray", "auto", address) as grid:
        for name, machine in zip(("one lost", "all lost"), machines, strict=True):
            _say(name, lambda name=name, machine=machine: _run(directory / name, grid, Killer(machine)))


def _open(address: str, hosts: int) -> None:
    with open_grid("ray", hosts, address):
        pass


def _share(address: str) -> dict[str, float]:
    """GPUs that Ray has left while two hosts share them."""
    with open_grid("ray", 2, address, gpus=True):
        wait_until(lambda: not ray.available_resources().get("GPU"))
        return {"left": ray.available_resources().get("GPU", 0.0)}


def _run(directory: Path, grid: RayGrid, killer: Killer) -> dict[str, object]:
    directory.mkdir()
    try:
        [arm] = simulate(SCENARIO, prepare(SCENARIO), directory, grid, killer)["arms"]
    finally:
        killer.thread.join()
    return {"digest": arm["transcript_digest"], "replaced": grid.replaced, "hosts": len(grid.get_node_ids())}


def _say(name: str, attempt: Callable[[], object]) -> None:
    try:
        said = attempt()
    except RunFailure as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps({name: said}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), [int(pid) for pid in sys.argv[4:]])
