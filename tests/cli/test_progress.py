"""What a terminal shows of a run's events."""

import io
import re

from rich.console import Console

from palimpsest.simulator.cli.progress import Shown
from palimpsest.simulator.world.protocols.events import (
    ArmDone,
    Noted,
    RequestDone,
    RoundDone,
    StageBegan,
    TrainingDone,
)


def lines(console: Console) -> list[str]:
    """What was printed, seconds left out."""
    assert isinstance(console.file, io.StringIO)
    return [re.sub(r"\d+\.\d s", "T", line) for line in console.file.getvalue().splitlines()]


def test_in_turn_every_stage_is_a_line_and_only_rounds_of_the_shared_training_count() -> None:
    console = Console(file=io.StringIO(), width=200)
    with Shown(console) as shown:
        shown.noted(Noted("hosts compute on the CPU"))
        shown.stage_began(StageBegan("Training: seed 0", 2, "rounds"))
        for round in (0, 1, 2):
            shown.round_done(RoundDone("seed 0", "", 0, round, "training", 0.1))
        shown.round_done(RoundDone("seed 0", "", 0, 2, "working", 0.1))
        shown.stage_began(StageBegan("Reference retraining: seed 0"))
        shown.training_done(TrainingDone("seed 0", 2.0))
        shown.stage_began(StageBegan("retrain"))
        shown.round_done(RoundDone("seed 0", "retrain", 1, 1, "unlearning", 0.1))
        shown.request_done(RequestDone("retrain", 0, 2, "client", (1,), 5, "", 0.2))
        shown.arm_done(ArmDone("retrain", 1, 1, 3.0))
    assert lines(console) == [
        "hosts compute on the CPU",
        "Training: seed 0 (2): T",
        "Reference retraining: seed 0: T",
        "retrain: T",
    ]


def test_side_by_side_trainings_and_arms_are_lines_of_their_own() -> None:
    console = Console(file=io.StringIO(), width=200)
    with Shown(console) as shown:
        shown.stage_began(StageBegan("Arms side by side", 2, "arms"))
        shown.round_done(RoundDone("seed 0", "", 0, 1, "training", 0.1))
        shown.training_done(TrainingDone("seed 0", 2.0))
        for arm in ("retrain", "none"):
            shown.arm_done(ArmDone(arm, 1, 1, 3.0))
    assert lines(console) == [
        "Training and reference: seed 0: T",
        "retrain: T",
        "none: T",
        "Arms side by side (2): T",
    ]


def test_a_terminal_shows_bars() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Shown(console) as shown:
        shown.stage_began(StageBegan("Training: seed 0", 2, "rounds"))
        shown.round_done(RoundDone("seed 0", "", 0, 1, "training", 0.1))
    assert isinstance(console.file, io.StringIO)
    assert "2/2" in console.file.getvalue(), "the bar of a stage that ends is full"
