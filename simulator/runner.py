"""The composition root: plan -> transcripts -> reconstructions -> scores -> results on disk -> tracking."""

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from simulator import figures, tracking
from simulator.arms import ArmRun
from simulator.findings import verdict
from simulator.grids import open_grid
from simulator.plan import Arm, plan
from simulator.progress import Progress, Silent
from simulator.scenario import Scenario, dump_toml, load_scenario
from simulator.threads import one_thread
from simulator.trunk import Groundwork, Trunk
from simulator.versions import machine, versions
from simulator.world.datasets import cache_directory
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
    ground = prepare(scenario)
    return _run_in(_new_directory(scenario, out), scenario, ground, progress or Silent())


def resume(directory: Path, progress: Progress | None = None) -> Result:
    """Finish a run that was interrupted: finished arms are kept, others run again, to the same digests.

    Raises:
        ScenarioError: the directory holds no resolved scenario.
    """
    scenario = load_scenario(str(directory / "scenario.toml"))
    return _run_in(directory, scenario, prepare(scenario), progress or Silent())


def run_on_grid(scenario: Scenario, grid: Grid, out: Path | None = None, progress: Progress | None = None) -> Result:
    """Run a scenario on hosts that somebody else provides: ``flwr run`` or a Flower deployment."""
    ground = prepare(scenario)
    directory = _new_directory(scenario, out)
    return _finish(directory, scenario, simulate(scenario, ground, directory, grid, progress), progress or Silent())


def prepare(scenario: Scenario) -> list[Groundwork]:
    """Load the data of every training and check that the scenario fits them, before anything is started or written.

    Raises:
        DataError, ScenarioError: one sentence that says what does not fit.
    """
    root = cache_directory() / "populations"
    return [Groundwork.of(scenario, prefix, root) for prefix in plan(scenario).prefixes]


def simulate(
    scenario: Scenario, ground: Sequence[Groundwork], directory: Path, grid: Grid, progress: Progress | None = None
) -> dict[str, Any]:
    """Run every arm that is not finished yet; write and return ``results.json``.

    Args:
        scenario: what to run.
        ground: what ``prepare`` said of it.
        directory: of the run; exists.
        grid: the hosts.
        progress: is told how far the run is.
    """
    began = time.perf_counter()
    outline = plan(scenario)
    with one_thread():
        for prefix, base in zip(outline.prefixes, ground, strict=True):
            left = [arm for arm in prefix.arms if not _finished(directory, arm).is_file()]
            if left:
                _run_prefix(directory, scenario, base, left, grid, progress or Silent())
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


def _run_in(directory: Path, scenario: Scenario, ground: Sequence[Groundwork], progress: Progress) -> Result:
    """Open the hosts that the scenario asks for, and run on them."""
    hosts = scenario.runtime.hosts
    count = (os.cpu_count() or 1) if hosts == "auto" else hosts
    progress.stage("Starting hosts", None)
    with open_grid(scenario.runtime.backend, count, scenario.runtime.ray_address) as grid:
        results = simulate(scenario, ground, directory, grid, progress)
    return _finish(directory, scenario, results, progress)


def _finish(directory: Path, scenario: Scenario, results: dict[str, Any], progress: Progress) -> Result:
    """Draw and track what a run has left on disk."""
    progress.stage("Drawing figures", None)
    figures.draw_all(directory)
    progress.stage("Tracking in MLflow", None)
    return Result(directory, results, tracking.track(directory, scenario.tracking.uri))


def _run_prefix(
    directory: Path, scenario: Scenario, ground: Groundwork, arms: Sequence[Arm], grid: Grid, progress: Progress
) -> None:
    """Train once, then let every arm unlearn from there."""
    scratch = directory / "checkpoints" / f"{ground.setting.variant or 'trunk'}-seed{ground.seed}"
    shutil.rmtree(scratch, ignore_errors=True)  # of an interrupted attempt
    trunk = Trunk.of(ground, grid, {need for arm in arms for need in arm.unlearning.needs}, scratch)
    label = " ".join(part for part in (ground.setting.variant, f"seed {ground.seed}") if part)
    progress.stage(f"Training: {label}", ground.setup.rounds)
    for release in trunk.train():
        progress.advance(1 if release.round > 0 and release.phase == "training" else 0)
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
