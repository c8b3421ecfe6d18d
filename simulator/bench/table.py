"""Measure, compare, print."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich import box
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from server.algorithms import fedavg
from server.setup import Lineage
from simulator.bench import loops
from simulator.bench.work import Measured, Work, make_population
from simulator.federation import GridFederation
from simulator.grids import RayGrid, ray_session
from simulator.versions import machine, versions
from simulator.world.models import flat

CONTESTANTS = ("palimpsest", "vmap loop", "torch loop", "plain flower")
AGREE = 2e-6
"""Largest difference of any weight between contestants, after all rounds, that still counts as the same work."""


@dataclass(frozen=True)
class Line:
    """One contestant on one piece of work.

    Attributes:
        updates: client updates a second, the median over rounds.
        start: seconds before the first round.
        memory: peak of resident memory over all its processes, MiB.
        apart: largest difference of a weight to Palimpsest's.
    """

    kind: str
    population: int
    cohort: int
    contestant: str
    updates: float
    start: float
    memory: float
    apart: float


def bench(
    kinds: Sequence[str], sizes: Sequence[tuple[int, int]], rounds: int, contestants: Sequence[str], console: Console
) -> list[Line]:
    """Run every contestant on every piece of work, one after the other, and check that all do the same work."""
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as place:
        for population, cohort in sizes:
            directory = make_population(population, Path(place))
            for kind in kinds:
                work = Work.model_validate(
                    {"kind": kind, "population": population, "cohort": cohort, "rounds": rounds, "directory": directory}
                )
                lines += _compare(work, contestants, console)
    return lines


def _compare(work: Work, contestants: Sequence[str], console: Console) -> list[Line]:
    found: list[Line] = []
    reference: Measured | None = None
    for name in contestants:
        with _peak_memory() as peak:
            measured = _measure(name, work)
        reference = reference or measured
        apart = float(np.abs(flat(measured.final) - flat(reference.final)).max())
        updates = work.cohort / float(np.median(measured.rounds))
        found.append(Line(work.kind, work.population, work.cohort, name, updates, measured.start, peak["mib"], apart))
        console.print(f"{work.kind}, {work.cohort} of {work.population}: {name} {updates:,.0f} updates/s")
    return found


def _measure(name: str, work: Work) -> Measured:
    processes = os.cpu_count() or 1
    if name == "palimpsest":
        return _palimpsest(work, processes)
    if name == "plain flower":
        return _plain_flower(work)
    return loops.measure(work, loops.vmapped if name == "vmap loop" else loops.plainly, processes)


def _palimpsest(work: Work, hosts: int) -> Measured:
    """The product's own path: server algorithm, blocks, Flower messages, Ray actors."""
    began = time.perf_counter()
    with ray_session(hosts):
        grid = RayGrid(hosts)
        about = {"data": {}, "directory": str(work.directory)}
        federation = GridFederation(grid, about, work.setup.sizes, 0, "bench")
        federation.hosts()
        start = time.perf_counter() - began
        steps = fedavg.rounds(work.setup, [Lineage(branch=0, forget={})], [work.start()], federation)
        times = []
        for _ in range(work.rounds + 1):
            began = time.perf_counter()
            model = next(steps).models[0]
            times.append(time.perf_counter() - began)
        grid.close()
    return Measured(start, times[1:], model)


def _plain_flower(work: Work) -> Measured:
    with tempfile.TemporaryDirectory() as place:
        job, out = Path(place) / "work.json", Path(place) / "out.safetensors"
        job.write_text(work.model_dump_json())
        began = time.time()
        call = "from simulator.bench.plain_flower import run; run()"
        done = subprocess.run([sys.executable, "-c", call, str(job), str(out)], capture_output=True, text=True)
        if not out.is_file():
            raise RuntimeError(f"plain Flower failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        arrays = load_file(out)
    times, started = arrays.pop("__times"), arrays.pop("__started")
    return Measured(float(started[0]) - began, times.tolist(), arrays)


@contextmanager
def _peak_memory() -> Iterator[dict[str, float]]:
    """Watch the resident memory of this process and all it started; pages that several share count for each."""
    peak, done = {"mib": 0.0}, threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            total = 0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak["mib"] = max(peak["mib"], total / 2**20)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def table(lines: Sequence[Line]) -> Table:
    """The comparison; ratios are Palimpsest's speed over the contestant's."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("model", "clients", "contestant"):
        shown.add_column(header, no_wrap=True)
    for header in ("updates/s", "palimpsest is", "start s", "peak MiB", "same weights"):
        shown.add_column(header, justify="right", no_wrap=True)
    own = {(line.kind, line.population, line.cohort): line.updates for line in lines if line.contestant == "palimpsest"}
    before: tuple[str, int, int] | None = None
    for line in lines:
        work = (line.kind, line.population, line.cohort)
        ratio = f"{own[work] / line.updates:.2f} x" if work in own and line.contestant != "palimpsest" else ""
        same = "yes" if line.apart <= AGREE else f"NO ({line.apart:.1e})"
        clients = f"{line.cohort:,} of {line.population:,}"
        shown.add_row(
            *((line.kind, clients) if work != before else ("", "")),
            line.contestant,
            f"{line.updates:,.0f}",
            ratio,
            f"{line.start:.1f}",
            f"{line.memory:,.0f}",
            same,
        )
        before = work
    return shown


def as_json(lines: Sequence[Line]) -> str:
    """The same for programs."""
    about: Mapping[str, Any] = {"machine": machine(), "versions": versions()}
    return json.dumps({**about, "lines": [vars(line) for line in lines]}, indent=1)
