"""Many runs in one process: what the process holds after each.

    python -m tests.soak.repeated [COUNT [BACKEND]]

Runs COUNT times (50) on BACKEND (serial; or ray), prints what is held after some of the runs, and fails where
something grows.
"""

import gc
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from palimpsest.simulator.experiment.runner import prepare, run, simulate
from palimpsest.simulator.federation.grids import open_grid
from tests.support.scenarios import small_scenario

COUNT = 50
WARM = 3
"""Runs after which everything is loaded."""
BYTES_A_RUN = 2**20
"""By which memory may grow with each run: caches of allocators do."""


@dataclass(frozen=True)
class Held:
    """What a process holds.

    Attributes:
        bytes: of resident memory.
        descriptors: open files.
        threads: of this process.
        children: processes that it has started, and theirs; a run's follower outlives it by a moment.
        shared: entries of /dev/shm.
    """

    bytes: int
    descriptors: int
    threads: int
    children: int
    shared: int

    @classmethod
    def now(cls) -> "Held":
        """Of this process."""
        gc.collect()
        me, shared = psutil.Process(), Path("/dev/shm")
        psutil.wait_procs([child for child in me.children() if "tracking" in " ".join(_line(child))], timeout=30)
        return cls(
            me.memory_info().rss,
            me.num_fds(),
            me.num_threads(),
            len(me.children(recursive=True)),
            len([entry for entry in shared.iterdir() if entry.owner() == me.username()]) if shared.is_dir() else 0,
        )


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def held_after(count: int, backend: str = "serial", tracked: bool = True) -> list[Held]:
    """What is held after each of so many runs, their figures and uploads included where they are tracked."""
    held = []
    with tempfile.TemporaryDirectory() as name:
        store = {"uri": f"sqlite:///{name}/mlflow.db"}
        for number in range(count):
            scenario = small_scenario(runtime={"backend": backend, "hosts": 2}, tracking=store)
            place = Path(name) / f"run-{number}"
            if tracked:
                assert run(scenario, place).tracked is not None
            else:
                place.mkdir()
                with open_grid(backend, 2) as grid:
                    simulate(scenario, prepare(scenario), place, grid)
            held.append(Held.now())
    return held


def growth(held: Sequence[Held]) -> list[str]:
    """What grows from the runs after the first few to the last; empty: nothing."""
    first, last, runs = held[WARM - 1], held[-1], len(held) - WARM
    found = [
        f"{name}: {before} after {WARM} runs, {asdict(last)[name]} after {len(held)}"
        for name, before in asdict(first).items()
        if name != "bytes" and asdict(last)[name] > before
    ]
    if last.bytes - first.bytes > max(20, runs) * BYTES_A_RUN:
        found.append(
            f"memory: {first.bytes / 2**20:.0f} MiB after {WARM} runs, {last.bytes / 2**20:.0f} after {len(held)}"
        )
    return found


def main(arguments: Sequence[str]) -> int:
    """Run; return whether something grows."""
    count = int(arguments[0]) if arguments else COUNT
    held = held_after(count, arguments[1] if len(arguments) > 1 else "serial")
    for number in sorted({0, WARM - 1, *range(9, count, 10), count - 1}):
        print(f"after {number + 1}: {asdict(held[number])}", flush=True)
    found = growth(held)
    print(
        "\n".join(found)
        or f"nothing grows in {count} runs; peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )
    return len(found)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
