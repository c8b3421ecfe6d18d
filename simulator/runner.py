"""The composition root: plan -> transcripts -> reconstructions -> scores -> results on disk -> tracking."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from flwr.serverapp import Grid
from threadpoolctl import threadpool_limits

from simulator import figures, tracking
from simulator.arms import ArmRun
from simulator.findings import verdict
from simulator.grids import open_grid
from simulator.plan import Arm, Prefix, plan
from simulator.progress import Progress, Silent
from simulator.scenario import Scenario, dump_toml, load_scenario
from simulator.trunk import Trunk
from simulator.versions import machine, versions
from simulator.world.datasets import cache_directory
from simulator.world.population import load_population
from simulator.world.transcript import write_atomically


@dataclass(frozen=True)
class Result:
    """What a run left.

    Attributes:
        directory: everything is in it.
        results: content of ``results.json``.
        tracked: what became of the upload to MLflow.
    """

    directory: Path
    results: dict[str, Any]
    tracked: tracking.Tracked


def run(scenario: Scenario, out: Path | None = None, progress: Progress | None = None) -> Result:
    """Run a scenario on this machine (or on the Ray cluster that it names).

    Args:
        scenario: what to run.
        out: where to leave the results; ``runs/<name>-<time>`` where not given. Must not exist or be empty.
        progress: is told how far the run is.

    Raises:
        ScenarioError: the scenario does not fit its data.
        FileExistsError: ``out`` holds something already.
    """
    return _run_in(_new_directory(scenario, out), scenario, progress or Silent())


def resume(directory: Path, progress: Progress | None = None) -> Result:
    """Finish a run that was interrupted: finished arms are kept, others run again, to the same digests.

    Raises:
        ScenarioError: the directory holds no resolved scenario.
    """
    return _run_in(directory, load_scenario(str(directory / "scenario.toml")), progress or Silent())


def run_on_grid(scenario: Scenario, grid: Grid, out: Path | None = None, progress: Progress | None = None) -> Result:
    """Run a scenario on hosts that somebody else provides: ``flwr run`` or a Flower deployment."""
    directory = _new_directory(scenario, out)
    return _finish(directory, scenario, simulate(scenario, directory, grid, progress), progress or Silent())


def simulate(scenario: Scenario, directory: Path, grid: Grid, progress: Progress | None = None) -> dict[str, Any]:
    """Run every arm that is not finished yet; write and return ``results.json``.

    Args:
        scenario: what to run.
        directory: of the run; exists.
        grid: the hosts.
        progress: is told how far the run is.
    """
    began = time.perf_counter()
    outline = plan(scenario)
    with _one_thread():
        for prefix in outline.prefixes:
            left = [arm for arm in prefix.arms if not _finished(directory, arm).is_file()]
            if left:
                _run_prefix(directory, scenario, prefix, left, grid, progress or Silent())
    results = {
        "schema": 1,
        "scenario": scenario.name,
        "versions": versions(),
        "machine": machine(),
        "seconds": time.perf_counter() - began,
        "arms": [json.loads(_finished(directory, arm).read_text()) for arm in outline.arms],
    }
    write_atomically(directory / "results.json", json.dumps(results, indent=1, allow_nan=False))
    return results


def _run_in(directory: Path, scenario: Scenario, progress: Progress) -> Result:
    """Open the hosts that the scenario asks for, and run on them."""
    hosts = scenario.runtime.hosts
    count = (os.cpu_count() or 1) if hosts == "auto" else hosts
    progress.stage("Starting hosts", None)
    with open_grid(scenario.runtime.backend, count, scenario.runtime.ray_address) as grid:
        results = simulate(scenario, directory, grid, progress)
    return _finish(directory, scenario, results, progress)


def _finish(directory: Path, scenario: Scenario, results: dict[str, Any], progress: Progress) -> Result:
    """Draw and track what a run has left on disk."""
    progress.stage("Drawing figures", None)
    figures.draw_all(directory)
    progress.stage("Tracking in MLflow", None)
    return Result(directory, results, tracking.track(directory, scenario.tracking.uri))


def _run_prefix(
    directory: Path, scenario: Scenario, prefix: Prefix, arms: Sequence[Arm], grid: Grid, progress: Progress
) -> None:
    """Train once, then let every arm unlearn from there."""
    cache = cache_directory()
    population = load_population(prefix.setting.data, prefix.seed, cache / "populations")
    scratch = directory / "checkpoints" / f"{prefix.setting.variant or 'trunk'}-seed{prefix.seed}"
    shutil.rmtree(scratch, ignore_errors=True)  # of an interrupted attempt
    trunk = Trunk.of(scenario, prefix, population, grid, cache / "populations", scratch)
    label = " ".join(part for part in (prefix.setting.variant, f"seed {prefix.seed}") if part)
    progress.stage(f"Training: {label}", trunk.setup.plan.rounds)
    for _ in trunk.train():
        progress.advance()
    progress.stage(f"Reference retraining: {label}", None)
    trunk.retrain_reference()
    for arm in arms:
        progress.stage(arm.id, None)
        shutil.rmtree(directory / "transcripts" / arm.id, ignore_errors=True)  # an interrupted attempt at this arm
        result = ArmRun(directory, scenario, arm, trunk).run()
        result["verdict"] = verdict(result)
        _finished(directory, arm).parent.mkdir(exist_ok=True)
        write_atomically(_finished(directory, arm), json.dumps(result, allow_nan=False))
    shutil.rmtree(scratch, ignore_errors=True)


def _finished(directory: Path, arm: Arm) -> Path:
    """Where the figures of a finished arm are: written last, so that its presence means that the arm is done."""
    return directory / "arms" / f"{arm.id}.json"


def _new_directory(scenario: Scenario, out: Path | None) -> Path:
    directory = out or Path("runs") / f"{scenario.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"--out {directory} holds something already: name a new directory, or resume it")
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "scenario.toml", dump_toml(scenario))
    return directory


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch and BLAS thread: sums over more threads have other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
