"""Trainings and arms: one after the other with all hosts, or side by side, where each host does some by itself.

Both ways lead to the same bits and leave the same files.
"""

import fcntl
import shutil
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from palimpsest.server.ledger import Ledger
from palimpsest.simulator.experiment import attackers
from palimpsest.simulator.experiment.arm import run_arm
from palimpsest.simulator.experiment.diverged import settle
from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.experiment.observers import Observers, following
from palimpsest.simulator.experiment.training import PackedTraining, SharedTraining
from palimpsest.simulator.federation.grids import Grid
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.federation.ray_grid import RayGrid
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.planning.plan import Arm, plan
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.planning.privacy import EpsilonMeter
from palimpsest.simulator.results.event_log import EventLog
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.errors import SettledFailure
from palimpsest.simulator.world.protocols.events import ArmDone, StageBegan, TrainingDone


@dataclass(frozen=True)
class Task:
    """One training, and those of its arms that are not finished.

    Attributes:
        directory: of the run; exists.
        scenario: what the user wrote.
        preparation: of the training.
        arms: at least one.
    """

    directory: RunDirectory
    scenario: Scenario
    preparation: PreparedTraining
    arms: tuple[Arm, ...]

    @property
    def is_all(self) -> bool:
        """Whether all arms of the scenario share this training."""
        return len(plan(self.scenario).prefixes) == 1

    @property
    def scratch(self) -> Path:
        """Where the training keeps what does not fit into memory, until its arms are done; no other training's."""
        return self.directory.arm(self.arms[0].id).scratch


@dataclass(frozen=True)
class Branch:
    """One arm of a training that is done."""

    task: Task
    arm: Arm
    trained: PackedTraining


def do_all(tasks: Sequence[Task], grid: Grid, observers: Observers) -> None:
    """Run all arms: side by side where there are enough to keep every host of this machine busy by itself.

    Side by side, trainings, hidden retrainings and arms have one host each, so that their seconds can be compared.

    Args:
        tasks: all trainings with unfinished arms.
        grid: the hosts.
        observers: are told what happens.
    """
    for task in tasks[:1]:
        _at_work(task.directory, fcntl.LOCK_EX).close()  # hosts of a run that was killed live on for some seconds
        shutil.rmtree(task.directory.scratch, ignore_errors=True)  # what it has left there
    if isinstance(grid, RayGrid) and 1 < grid.self_sufficient <= sum(len(task.arms) for task in tasks):
        with following(tasks[0].directory.path, observers):
            _do_beside(tasks, grid, observers)
        return
    count, done = sum(len(task.arms) for task in tasks), 0
    for task in tasks:
        shared = _train(task, grid, observers, (done, count))
        for position, arm in enumerate(task.arms):
            if shared is None:
                break
            observers.stage_began(StageBegan(arm.id, arms=(done + position, count)))
            _run_arm(task, arm, shared, observers)
        done += len(task.arms)
        shutil.rmtree(task.scratch, ignore_errors=True)


def _do_beside(tasks: Sequence[Task], grid: RayGrid, observers: Observers) -> None:
    """Have hosts train, and put the arms of each training before the trainings that wait, so that few are kept."""
    waiting: deque[Task | Branch] = deque(tasks)
    left = {task.scratch: len(task.arms) for task in tasks}
    observers.stage_began(StageBegan("Arms side by side", sum(left.values()), "arms"))
    for piece, trained in grid.each(_alone, waiting):
        if isinstance(piece, Task):
            if trained is None:  # it diverged, and its arms are done with it
                shutil.rmtree(piece.scratch, ignore_errors=True)
            else:
                waiting.extendleft(Branch(piece, arm, trained) for arm in reversed(piece.arms))
            continue
        left[piece.task.scratch] -= 1
        if not left[piece.task.scratch]:
            shutil.rmtree(piece.task.scratch, ignore_errors=True)


@np.errstate(over="ignore", invalid="ignore")  # models that are not finite are refused by name
def _train(task: Task, grid: Grid, observers: Observers, arms: tuple[int, int] | None = None) -> SharedTraining | None:
    """Train, and retrain for comparison; None where that diverges, and its arms are done so: others may go on."""
    preparation, privacy, began = task.preparation, task.scenario.privacy, time.perf_counter()
    attackers.start()
    shutil.rmtree(task.scratch, ignore_errors=True)  # of a host that died over it
    needs = {need for arm in task.arms for need in arm.unlearning.card.needs}
    shared = SharedTraining.of(preparation, grid, needs, task.scratch, task.scenario.runtime.compress_updates)
    observers.stage_began(StageBegan(f"Training: {preparation.label}", preparation.setup.rounds, "rounds", arms))
    try:
        for done in shared.train(EpsilonMeter(privacy.delta, privacy.accountant)):
            observers.round_done(done)
        if task.scenario.evaluation.retrainings:
            observers.stage_began(StageBegan(f"Reference retraining: {preparation.label}", arms=arms))
            shared.retrain_reference(task.scenario.evaluation)
    except SettledFailure as error:
        if task.is_all:
            raise
        for arm in task.arms:
            _run_arm(task, arm, shared, observers, error)
        return None
    observers.training_done(TrainingDone(preparation.label, time.perf_counter() - began))
    return shared


@np.errstate(over="ignore", invalid="ignore")  # see _train
def _run_arm(
    task: Task, arm: Arm, shared: SharedTraining, observers: Observers, failed: SettledFailure | None = None
) -> None:
    """Unlearn, attack and score; an arm that an interrupted run had begun begins anew, and the ledger says so.

    Of an arm whose training ``failed``, only that is written down.
    """
    began = time.perf_counter()
    if task.directory.arm(arm.id).clear():
        Ledger(task.directory.ledger, arm.id).write("restarted", None)
    inputs = ArmInputs(task.scenario, arm, shared)
    done = (
        run_arm(task.directory, inputs, observers)
        if failed is None
        else settle(task.directory, inputs, failed, observers)
    )
    seconds = time.perf_counter() - began
    observers.arm_done(ArmDone(arm.id, done.requests_made, done.requests_completed, seconds))


# --- what a host does by itself --------------------------------------------------------------------------------------


def _at_work(directory: RunDirectory, how: int) -> IO[str]:
    """A lock on the run's directory: shared by hosts that write there by themselves; held until it is closed."""
    file = directory.hosts_lock.open("a")
    fcntl.flock(file, how)
    return file


def _alone(piece: Task | Branch) -> PackedTraining | None:
    """Train, or run one arm of a training; return the training. What happens goes into the run's log of events."""
    task = piece if isinstance(piece, Task) else piece.task
    observers = Observers([EventLog.of(task.directory.path)])
    with one_thread(), _at_work(task.directory, fcntl.LOCK_SH):
        if isinstance(piece, Task):
            shared = _train(piece, SerialGrid(), observers)
            return None if shared is None else shared.leave(str(task.scratch))
        _run_arm(task, piece.arm, _taken_up(piece.trained), observers)
        return None


@lru_cache(maxsize=1)
def _taken_up(trained: PackedTraining) -> SharedTraining:
    """The training, kept for the next of its arms: what was measured of it need not be measured again."""
    return SharedTraining.taken_up(trained, SerialGrid())
