"""What the process does that follows a run into MLflow."""

import json
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.tracking.live import told
from palimpsest.simulator.tracking.upload import Connection, locked

_PAUSE = 2.0
"""Seconds between two looks at the run's directory."""
_LONGEST_PAUSE = 60.0
"""Where the store fails, pauses double up to this."""
_SYSTEM_PAUSE = 10.0
_PATIENCE = 60.0
_NICENESS = 15
"""Training comes first: that of Ray's hosts, which at 10 had waited for MLflow to be loaded."""


def follow(path: Path, uri: str, orders: IO[bytes], answer: IO[str]) -> None:
    """Upload what a run leaves, as it comes, until the run says how it ended or is gone; then upload the rest.

    Args:
        path: of the run's directory.
        uri: of the store; may be empty.
        orders: a line says how the run ended; its end without a line that the run is gone.
        answer: gets one line, see ``live.told``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    directory = RunDirectory(path)
    with locked(directory, _PATIENCE):  # of a run that was just killed; two at once do no harm but work
        directory.tracked.note_end("")
        connection, pause, due = Connection(directory, uri), _PAUSE, 0.0
        machine = _machine(directory)
        wait = 0.0  # while hosts start there is time to load MLflow
        while (how := _heard(orders, wait)) is None:
            wait = _PAUSE
            next(machine)
            if time.monotonic() < due:
                continue
            pause = _PAUSE if connection.go_on() is None else min(2.0 * pause, _LONGEST_PAUSE)
            due = time.monotonic() + (pause if pause > _PAUSE else 0.0)
        if how != "FINISHED":
            directory.tracked.note_end(how)
        with suppress(OSError):  # nobody reads it where the run is gone
            print(told(connection.end(how)), file=answer, flush=True)


def _heard(orders: IO[bytes], seconds: float) -> str | None:
    """The order that came within so many seconds; None where none did. A run that is gone was killed."""
    if not select.select([orders], [], [], seconds)[0]:
        return None
    return orders.readline().decode().strip() or "KILLED"


def _machine(directory: RunDirectory) -> Iterator[None]:
    """Write down what the machine is doing, by MLflow's own names, every ten seconds, however often it is asked."""
    from mlflow.system_metrics.metrics import cpu_monitor, disk_monitor, network_monitor

    file = directory.system_log
    step = len(file.read_bytes().splitlines()) if file.is_file() else 0
    monitors: list[Any] = [cpu_monitor.CPUMonitor(), disk_monitor.DiskMonitor(), network_monitor.NetworkMonitor()]  # type: ignore[no-untyped-call]
    monitors[0].collect_metrics()  # the first share of the CPU means nothing
    monitors[0].clear_metrics()
    due = time.monotonic() + _PAUSE
    while True:
        if time.monotonic() >= due:
            due = time.monotonic() + _SYSTEM_PAUSE
            values: dict[str, float] = {"time": int(time.time() * 1000), "step": step}
            for monitor in monitors:
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            with file.open("a") as log:
                log.write(json.dumps(values) + "\n")
            step += 1
        yield
