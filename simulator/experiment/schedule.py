"""Trainings and arms: one after the other with all hosts, or side by side, where each host does some by itself.

Both ways lead to the same bits and leave the same files.
"""

import fcntl
import json
import shutil
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from palimpsest.server.ledger import Ledger
from palimpsest.simulator.experiment.arm import run_arm
from palimpsest.simulator.experiment.progress import Progress, Silent
from palimpsest.simulator.experiment.served import ArmInputs
from palimpsest.simulator.experiment.training import Trained, Trunk
from palimpsest.simulator.federation.grids import Grid
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.federation.ray_grid import RayGrid
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.planning.plan import Arm
from palimpsest.simulator.planning.prepared import Groundwork
from palimpsest.simulator.results.verdicts import verdict
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.files import write_atomically


@dataclass(frozen=True)
class Task:
    """One training, and those of its arms that are not finished.

    Attributes:
        directory: of the run; exists.
        scenario: what the user wrote.
        ground: of the training.
        arms: at least one.
    """

    directory: Path
    scenario: Scenario
    ground: Groundwork
    arms: tuple[Arm, ...]

    @property
    def label(self) -> str:
        """Of the training, for the user."""
        return " ".join(part for part in (self.ground.setting.variant, f"seed {self.ground.seed}") if part)

    @property
    def scratch(self) -> Path:
        """Where the training keeps what does not fit into memory, until its arms are done; no other training's."""
        return self.directory / "checkpoints" / self.arms[0].id


@dataclass(frozen=True)
class Branch:
    """One arm of a training that is done."""

    task: Task
    arm: Arm
    trained: Trained


def finished(directory: Path, arm: Arm) -> Path:
    """Where the figures of a finished arm are: written last, so that its presence means that the arm is done."""
    return directory / "arms" / f"{arm.id}.json"


def do_all(tasks: Sequence[Task], grid: Grid, progress: Progress) -> None:
    """Run all arms: side by side where there are enough to keep every host of this machine busy by itself.

    Side by side, trainings, hidden retrainings and arms have one host each, so that their seconds can be compared.

    Args:
        tasks: all trainings with unfinished arms.
        grid: the hosts.
        progress: is told how far the run is.
    """
    for task in tasks[:1]:
        _at_work(task.directory, fcntl.LOCK_EX).close()  # hosts of a run that was killed live on for some seconds
        shutil.rmtree(task.scratch.parent, ignore_errors=True)  # what it has left there
    if isinstance(grid, RayGrid) and 1 < grid.self_sufficient <= sum(len(task.arms) for task in tasks):
        _do_beside(tasks, grid, progress)
        return
    for task in tasks:
        trunk = _train(task, grid, progress)
        for arm in task.arms:
            progress.stage(arm.id, None)
            _run_arm(task, arm, trunk)
        shutil.rmtree(task.scratch, ignore_errors=True)


def _do_beside(tasks: Sequence[Task], grid: RayGrid, progress: Progress) -> None:
    """Have hosts train, and put the arms of each training before the trainings that wait, so that few are kept."""
    waiting: deque[Task | Branch] = deque(tasks)
    left = {task.scratch: len(task.arms) for task in tasks}
    progress.stage("Arms side by side", sum(left.values()))
    for piece, (trained, seconds) in grid.each(_alone, waiting):
        if isinstance(piece, Task):
            assert trained is not None
            waiting.extendleft(Branch(piece, arm, trained) for arm in reversed(piece.arms))
            progress.note(f"Training and reference: {piece.label}: {seconds:.1f} s")
            continue
        progress.note(f"{piece.arm.id}: {seconds:.1f} s")
        progress.advance()
        left[piece.task.scratch] -= 1
        if not left[piece.task.scratch]:
            shutil.rmtree(piece.task.scratch, ignore_errors=True)


def _train(task: Task, grid: Grid, progress: Progress) -> Trunk:
    """Train, and retrain for comparison."""
    ground = task.ground
    shutil.rmtree(task.scratch, ignore_errors=True)  # of a host that died over it
    trunk = Trunk.of(ground, grid, {need for arm in task.arms for need in arm.unlearning.card.needs}, task.scratch)
    progress.stage(f"Training: {task.label}", ground.setup.rounds)
    for release in trunk.train():
        progress.advance(1 if release.round > 0 and release.phase == "training" else 0)
    progress.stage(f"Reference retraining: {task.label}", None)
    trunk.retrain_reference(task.scenario.evaluation)
    return trunk


def _run_arm(task: Task, arm: Arm, trunk: Trunk) -> None:
    """Unlearn, attack and score; an arm that an interrupted run had begun begins anew, and the ledger says so."""
    transcript = task.directory / "transcripts" / arm.id
    if transcript.exists():
        Ledger(task.directory / "ledger.jsonl", arm.id).write("restarted", None)
        shutil.rmtree(transcript)
    result = run_arm(task.directory, ArmInputs(task.scenario, arm, trunk))
    result["verdict"] = verdict(result)
    place = finished(task.directory, arm)
    place.parent.mkdir(exist_ok=True)
    write_atomically(place, json.dumps(result, allow_nan=False))


# --- what a host does by itself --------------------------------------------------------------------------------------


def _at_work(directory: Path, how: int) -> IO[str]:
    """A lock on the run's directory: shared by hosts that write there by themselves; held until it is closed."""
    file = (directory / ".hosts").open("a")
    fcntl.flock(file, how)
    return file


def _alone(piece: Task | Branch) -> tuple[Trained | None, float]:
    """Train, or run one arm of a training; return the training, and the seconds that it took."""
    began, trained = time.perf_counter(), None
    task = piece if isinstance(piece, Task) else piece.task
    with one_thread(), _at_work(task.directory, fcntl.LOCK_SH):
        if isinstance(piece, Task):
            trained = _train(piece, SerialGrid(), Silent()).leave(str(task.scratch))
        else:
            _run_arm(task, piece.arm, _taken_up(piece.trained))
    return trained, time.perf_counter() - began


@lru_cache(maxsize=1)
def _taken_up(trained: Trained) -> Trunk:
    """The training, kept for the next of its arms: what was measured of it need not be measured again."""
    return Trunk.taken_up(trained, SerialGrid())
