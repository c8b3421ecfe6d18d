"""What each process of a run does when: its share of a core, moment by moment, as a picture."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from palimpsest.simulator.results.event_log import EventLog
from palimpsest.simulator.results.provenance import machine
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.protocols.events import ArmDone, TrainingDone
from palimpsest.simulator.world.records import Array

PAUSE = 0.2
"""Seconds between two looks."""
LEAST = 0.3
"""Seconds of a core below which a process is not shown."""
_ROLES = {
    "palimpsest.attacks": "attacks",
    "simulator.tracking": "MLflow",
    "ray::RayHost": "host",
    "default_worker.py": "host",
    "gcs_server": "Ray",
    "raylet": "Ray",
    "/ray/": "Ray",
}
"""What a process is, by the first of these that its command line holds; the run's own process is the driver."""


@dataclass
class ProcessLine:
    """One process.

    Attributes:
        role: what it is.
        spent: seconds of a core that it has used by the last look.
        looks: (seconds since the start, share of a core since the look before).
    """

    role: str
    spent: float = 0.0
    looks: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Timeline:
    """A run.

    Attributes:
        seconds: that it took.
        processes: in the order in which they were seen.
        marks: (seconds since the start, what was done then).
    """

    seconds: float
    processes: list[ProcessLine]
    marks: list[tuple[float, str]]


def measure(arguments: Sequence[str], place: Path) -> Timeline:
    """Run ``palimpsest run`` in a directory and watch its processes.

    Args:
        arguments: of the command, beside ``--out``.
        place: an empty directory, in which the run and its MLflow store are left.

    Raises:
        RunFailure: the run failed.
    """
    out = place / "out"
    command = [sys.executable, "-m", "palimpsest.simulator", "run", *arguments, "--out", str(out)]
    seen: dict[int, ProcessLine] = {}
    with (place / "log").open("w") as log:
        began, epoch = time.perf_counter(), time.time()
        process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log)
        while process.poll() is None:
            _look(process.pid, seen, time.perf_counter() - began)
            time.sleep(PAUSE)
    if process.returncode:
        raise RunFailure(f"the run failed:\n{(place / 'log').read_text()[-2000:]}")
    marks = [
        (written - epoch, "training done" if isinstance(event, TrainingDone) else "arm done")
        for written, event in EventLog(RunDirectory(out).events, beginning=True).timed()
        if isinstance(event, TrainingDone | ArmDone)
    ]
    marks.append((RunDirectory(out).results_file.stat().st_mtime - epoch, "results written"))
    shown = [line for line in seen.values() if line.spent >= LEAST]
    return Timeline(time.perf_counter() - began, shown, marks)


def _look(root: int, seen: dict[int, ProcessLine], now: float) -> None:
    """Note what every process has used since the last look."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(root), *psutil.Process(root).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
                line = seen.setdefault(process.pid, ProcessLine("driver"))
                if process.pid != root:
                    line.role = role_of(" ".join(process.cmdline())) or line.role.replace("driver", "other")
                times = process.cpu_times()
                spent = times.user + times.system
                before = line.looks[-1][0] if line.looks else max(0.0, now - PAUSE)
                line.looks.append((now, (spent - line.spent) / max(now - before, 1e-3)))
                line.spent = spent


def role_of(command: str) -> str:
    """What a process is, by its command line; empty if nobody of those that are known."""
    return next((role for part, role in _ROLES.items() if part in command), "")


def draw(timeline: Timeline, file: Path) -> None:
    """Draw a row for each process, dark where it is busy; lines mark what was done."""
    from matplotlib.figure import Figure

    lines = sorted(timeline.processes, key=lambda line: line.looks[0][0])
    figure = Figure(figsize=(10, 1.4 + 0.34 * len(lines)), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(0.0, timeline.seconds, max(2, int(timeline.seconds / PAUSE) + 1))
    shares = np.array([_binned(line, edges) for line in lines])
    drawn = axes.pcolormesh(edges, np.arange(len(lines) + 1), shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_yticks(np.arange(len(lines)) + 0.5, [f"{line.role}, {line.spent:.1f} s" for line in lines])
    axes.invert_yaxis()
    for moment, what in timeline.marks:
        axes.axvline(moment, color="black", lw=0.8, ls={"training done": "-", "arm done": ":"}.get(what, "--"))
    axes.set_xlabel("seconds; training done (solid), arm done (dotted), results written (dashed)")
    about = machine()
    axes.set_title(f"{timeline.seconds:.1f} s on {about['cores']} cores of {about['cpu']}")
    figure.colorbar(drawn, label="share of a core")
    figure.savefig(file, dpi=120)


def _binned(line: ProcessLine, edges: Array) -> Array:
    """Share of a core in each interval: that of the next look."""
    moments, shares = np.array(line.looks).T
    middles = (edges[1:] + edges[:-1]) / 2
    following = np.minimum(np.searchsorted(moments, middles), len(moments) - 1)
    alive = (middles >= moments[0] - PAUSE) & (middles <= moments[-1])
    values: Array = np.where(alive, np.clip(shares[following], 0.0, 1.0), 0.0)
    return values
