"""Measure, compare, print."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich import box
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from palimpsest.simulator.bench.hand_batched import hand_batched
from palimpsest.simulator.bench.loops import Loops, plainly, vmapped
from palimpsest.simulator.bench.palimpsest_hosts import PalimpsestHosts
from palimpsest.simulator.bench.work import Contestant, Measured, Work, make_population
from palimpsest.simulator.results.provenance import machine, versions
from palimpsest.simulator.world.models.model import flat

CONTESTANTS = ("palimpsest", "hand-batched", "vmap loop", "torch loop", "plain flower")
AGREE = 2e-6
"""Largest difference of any weight between contestants after the first round that still counts as the same work."""


@dataclass(frozen=True)
class BenchLine:
    """One contestant on one piece of work.

    Attributes:
        updates: client updates a second, the median over rounds.
        slowest, fastest: the same in the slowest and the fastest round.
        rounds: how many were measured.
        start: seconds before it can train, once a command (plain Flower: once a piece of work).
        memory: peak of resident memory over its processes and the one that asks them, MiB; pages that several share
            count for each.
        apart: largest difference of a weight to Palimpsest's after the first round. (Later, rounding grows.)
    """

    kind: str
    population: int
    cohort: int
    contestant: str
    updates: float
    slowest: float
    fastest: float
    rounds: int
    start: float
    memory: float
    apart: float


def bench(
    kinds: Sequence[str], sizes: Sequence[tuple[int, int]], rounds: int, contestants: Sequence[str], console: Console
) -> list[BenchLine]:
    """Run every contestant on every piece of work, a round of each in turn, and check that all do the same work."""
    lines: list[BenchLine] = []
    with tempfile.TemporaryDirectory() as place, _started(contestants) as ready:
        for population, cohort in sizes:
            directory = make_population(population, Path(place))
            for kind in kinds:
                work = Work.model_validate(
                    {"kind": kind, "population": population, "cohort": cohort, "rounds": rounds, "directory": directory}
                )
                results = _lines(work, _in_turn(work, ready, "plain flower" in contestants))
                lines += results
                for line in results:
                    console.print(f"{kind}, {cohort} of {population}: {line.contestant} {line.updates:,.0f} updates/s")
    return lines


@contextmanager
def _started(contestants: Sequence[str]) -> Iterator[dict[str, Contestant]]:
    """Start those that stay for all the work."""
    processes = os.cpu_count() or 1
    starts: dict[str, Callable[[], Contestant]] = {
        "palimpsest": lambda: PalimpsestHosts(processes),
        "hand-batched": lambda: Loops(hand_batched, processes),
        "vmap loop": lambda: Loops(vmapped, processes),
        "torch loop": lambda: Loops(plainly, processes),
    }
    with ExitStack() as ends:
        ready = {}
        for name in contestants:
            if name in starts:
                ready[name] = starts[name]()
                ends.callback(ready[name].close)
        yield ready


def _in_turn(work: Work, ready: Mapping[str, Contestant], flower: bool) -> dict[str, Measured]:
    """One round of each in turn, so that all meet the same disturbances; the first is not measured.

    Plain Flower keeps a core busy as long as it lives: it comes in the middle, alone.
    """
    measured: dict[str, Measured] = {}
    rounds = {name: contestant.rounds(work) for name, contestant in ready.items()}
    for round in range(work.rounds + 1):
        if flower and round == work.rounds // 2 + 1:
            measured["plain flower"] = _plain_flower(work)
        for name, contestant in ready.items():
            with peak_memory(contestant.processes) as peak:
                began = time.perf_counter()
                model = next(rounds[name])
                seconds = time.perf_counter() - began
            if round == 0:
                measured[name] = Measured(contestant.start, 0.0, [], model)
            else:
                measured[name].rounds.append(seconds)
            measured[name].memory = max(measured[name].memory, peak["mib"])
    return measured


def _lines(work: Work, measured: Mapping[str, Measured]) -> list[BenchLine]:
    reference = flat(next(iter(measured.values())).first)
    return [
        BenchLine(
            kind=work.kind,
            population=work.population,
            cohort=work.cohort,
            contestant=name,
            updates=work.cohort / float(np.median(results.rounds)),
            slowest=work.cohort / max(results.rounds),
            fastest=work.cohort / min(results.rounds),
            rounds=len(results.rounds),
            start=results.start,
            memory=results.memory,
            apart=float(np.abs(flat(results.first) - reference).max()),
        )
        for name, results in sorted(measured.items(), key=lambda item: CONTESTANTS.index(item[0]))
    ]


def _plain_flower(work: Work) -> Measured:
    with tempfile.TemporaryDirectory() as place:
        job, out, log = Path(place) / "work.json", Path(place) / "out.safetensors", Path(place) / "log"
        job.write_text(work.model_dump_json())
        began = time.time()
        call = [
            sys.executable,
            "-c",
            "from palimpsest.simulator.bench.plain_flower import run; run()",
            str(job),
            str(out),
        ]
        with (
            log.open("w") as lines,
            subprocess.Popen(call, stdout=lines, stderr=subprocess.STDOUT) as process,
            peak_memory([process.pid]) as peak,
        ):
            process.wait()
        if not out.is_file():
            raise RuntimeError(f"plain Flower failed:\n{log.read_text()[-4000:]}")
        arrays = load_file(out)
    times, started = arrays.pop("__times"), arrays.pop("__started")
    return Measured(float(started[0]) - began, peak["mib"], times.tolist(), arrays)


@contextmanager
def peak_memory(processes: Sequence[int]) -> Iterator[dict[str, float]]:
    """Watch the resident memory of this process and of some others with all that they started."""
    peak, done = {"mib": 0.0}, threading.Event()

    def watch() -> None:
        while True:
            total = psutil.Process().memory_info().rss
            for root in processes:
                try:
                    family = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
                    total += sum(process.memory_info().rss for process in family)
                except psutil.NoSuchProcess:
                    continue
            peak["mib"] = max(peak["mib"], total / 2**20)
            if done.wait(0.5):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def table(lines: Sequence[BenchLine]) -> Table:
    """The comparison; ratios are Palimpsest's speed over the contestant's, MiB peak memory."""
    here = machine()
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, title=f"{here['cpu']}, {here['cores']} cores")
    for header in ("model", "clients", "contestant"):
        shown.add_column(header, no_wrap=True)
    for header in ("updates/s", "ratio", "start s", "MiB", "same"):
        shown.add_column(header, justify="right", no_wrap=True)
    updates = {
        (line.kind, line.population, line.cohort): line.updates for line in lines if line.contestant == "palimpsest"
    }
    before: tuple[str, int, int] | None = None
    for line in lines:
        work = (line.kind, line.population, line.cohort)
        ratio = f"{updates[work] / line.updates:.3g}x" if work in updates and line.contestant != "palimpsest" else ""
        same = "yes" if line.apart <= AGREE else f"NO ({line.apart:.1e})"
        clients = f"{line.cohort:,}/{line.population:,}"
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


def as_json(lines: Sequence[BenchLine]) -> str:
    """The same for programs."""
    about: Mapping[str, Any] = {"machine": machine(), "versions": versions()}
    return json.dumps({**about, "lines": [vars(line) for line in lines]}, indent=1)
