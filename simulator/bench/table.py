"""Measure, compare, print."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from palimpsest.simulator.bench.hand_batched import STEPS, hand_batched
from palimpsest.simulator.bench.loops import Loops, plainly, vmapped
from palimpsest.simulator.bench.palimpsest_hosts import PalimpsestHosts
from palimpsest.simulator.bench.usage import cpu_seconds, peak_memory
from palimpsest.simulator.bench.work import RECORDS, Contestant, Measured, Work, make_population
from palimpsest.simulator.bench.workloads import spec_of
from palimpsest.simulator.results.provenance import machine, versions
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.records import Array

CONTESTANTS = ("palimpsest", "hand-batched", "vmap loop", "torch loop", "plain flower")
AGREE = 2e-6
"""Contestants did the same work if no weight differs by more after the first round. Where the largest weight is beyond
1, this is multiplied by it."""
AGREE_DEEP = 1e-2
"""For models whose gradients are not written out: the difference allowed, as a share of the largest change of a weight
in the first round. Deep networks amplify rounding from step to step. Other batches would differ by about the whole
change, so that this still tells them apart."""

NUMBERS = ("updates/s", "ratio", "cpu ms", "cpu\nratio", "start", "MiB", "same")
"""Columns of the table; both ratios are larger where Palimpsest is faster."""

_NEEDS: Mapping[str, Callable[[Work], bool]] = {
    "hand-batched": lambda work: work.kind in STEPS,
    "vmap loop": lambda work: work.model.vmaps,
}
"""Who cannot do every model's work: nobody wrote a step of it by hand, or ``vmap`` does not go through the module."""


@dataclass(frozen=True)
class BenchLine:
    """One contestant on one piece of work.

    Attributes:
        updates: client updates a second, the median over rounds.
        slowest, fastest: the same in the slowest and the fastest round.
        cpu: processor time of all its processes a client update, in milliseconds, the median over rounds: it says more
            than ``updates`` where others use the machine too.
        shape: of one record.
        rounds: how many were measured.
        start: seconds before it can train, once a command (plain Flower: once a piece of work).
        memory: peak of resident memory over its processes and the one that asks them, MiB; pages that several share
            count for each.
        apart: largest difference of a weight to Palimpsest's after the first round. (Later, rounding grows.)
        agree: up to where it is the same work.
    """

    kind: str
    population: int
    cohort: int
    contestant: str
    updates: float
    slowest: float
    fastest: float
    cpu: float
    shape: tuple[int, ...]
    rounds: int
    start: float
    memory: float
    apart: float
    agree: float

    @property
    def same(self) -> bool:
        """Whether the contestant did the same work as Palimpsest."""
        return self.apart <= self.agree


def bench(
    pieces: Sequence[tuple[str, int, int]], rounds: int, contestants: Sequence[str], console: Console
) -> list[BenchLine]:
    """Run every contestant on every piece of work, a round of each in turn, and check that all do the same work.

    Args:
        pieces: model, population and cohort.
        rounds: that are measured.
        contestants: of ``CONTESTANTS``; who cannot do some model's work is left out there.
        console: is told each line.
    """
    lines: list[BenchLine] = []
    with tempfile.TemporaryDirectory() as place, _started(contestants) as ready:
        for kind, population, cohort in pieces:
            about = {"kind": kind, "population": population, "cohort": cohort, "rounds": rounds}
            directory = make_population(population, Path(place), spec_of(kind).shape)
            work = Work.model_validate({**about, "directory": directory})
            able = {name: one for name, one in ready.items() if name not in _NEEDS or _NEEDS[name](work)}
            results = _lines(work, _in_turn(work, able, "plain flower" in contestants))
            lines += results
            for line in results:
                said = f"{_rounded(line.updates, 4)} updates/s, {_rounded(line.cpu, 4)} ms of a processor each"
                console.print(f"{kind}, {cohort} of {population}: {line.contestant} {said}", soft_wrap=True)
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
                used, began = cpu_seconds(contestant.processes), time.perf_counter()
                model = next(rounds[name])
                seconds, used = time.perf_counter() - began, cpu_seconds(contestant.processes) - used
            if round == 0:
                measured[name] = Measured(contestant.start, 0.0, [], [], model)
            else:
                measured[name].rounds.append(seconds)
                measured[name].cpu.append(used)
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
            cpu=1000.0 * float(np.median(results.cpu)) / work.cohort,
            shape=work.setup.spec.shape,
            rounds=len(results.rounds),
            start=results.start,
            memory=results.memory,
            apart=float(np.abs(flat(results.first) - reference).max()),
            agree=_agree(work, reference),
        )
        for name, results in sorted(measured.items(), key=lambda item: CONTESTANTS.index(item[0]))
    ]


def _agree(work: Work, first: Array) -> float:
    """How far weights may be apart after the first round, given Palimpsest's."""
    of_size = AGREE * max(1.0, float(np.abs(first).max()))
    if work.model.written is not None:
        return of_size
    return max(of_size, AGREE_DEEP * float(np.abs(first - flat(work.start())).max()))


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
    return Measured(float(started[0]) - began, peak["mib"], times.tolist(), arrays.pop("__cpu").tolist(), arrays)


def table(lines: Sequence[BenchLine], contestants: Sequence[str]) -> Table:
    """The comparison; ratios are Palimpsest's speed over the contestant's, MiB peak memory.

    Who could not do some model's work has a dash in every column.
    """
    here = machine()
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, title=f"{here['cpu']}, {here['cores']} cores")
    for header in ("model", "clients", "contestant"):
        shown.add_column(header, no_wrap=True)
    for header in NUMBERS:
        shown.add_column(header, justify="right", no_wrap=True)
    of_work: dict[tuple[str, int, int], dict[str, BenchLine]] = {}
    for line in lines:
        of_work.setdefault((line.kind, line.population, line.cohort), {})[line.contestant] = line
    for (kind, population, cohort), by_name in of_work.items():
        about: tuple[str, ...] = (kind, f"{cohort:,}/{population:,}")
        ours = by_name.get(CONTESTANTS[0])
        for name in contestants:
            numbers = _numbers(by_name[name], ours) if name in by_name else ["-"] * len(NUMBERS)
            shown.add_row(*about, name, *numbers)
            about = ("", "")
    shapes = {line.kind: "x".join(map(str, line.shape)) for line in lines}
    shown.caption = f"{RECORDS} records a client: {', '.join(f'{kind} {shape}' for kind, shape in shapes.items())}"
    return shown


def _numbers(line: BenchLine, ours: BenchLine | None) -> list[str]:
    """What ``NUMBERS`` names; Palimpsest's own line has no ratios."""
    beside = ours if ours is not line else None
    return [
        _rounded(line.updates, 2),
        _ratio(beside.updates, line.updates) if beside else "",
        _rounded(line.cpu, 3),
        _ratio(line.cpu, beside.cpu) if beside else "",
        f"{line.start:.1f}",
        f"{line.memory:,.0f}",
        "yes" if line.same else f"NO ({line.apart:.1e})",
    ]


def _ratio(above: float, below: float) -> str:
    """A dash where one of both is zero: a short round can take less processor time than the kernel's clock resolves."""
    return _rounded(above / below, 3) if above and below else "-"


def _rounded(value: float, digits: int) -> str:
    """So many significant digits, or all before the point where these are more; never with an exponent of ten."""
    return f"{value:,.0f}" if value >= 10**digits - 0.5 else f"{value:,.{digits}g}"


def as_json(lines: Sequence[BenchLine]) -> str:
    """The same for programs."""
    about: Mapping[str, Any] = {"machine": machine(), "versions": versions()}
    return json.dumps({**about, "lines": [vars(line) for line in lines]}, indent=1)
