"""What a terminal shows of a run's events."""

import io
import re
import time
from typing import Any

import pytest
from rich.console import Console

from palimpsest.simulator.experiment.progress import InNotebook, ProgressDisplay, shown, time_left
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
    with ProgressDisplay(console) as shown:
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
    with ProgressDisplay(console) as shown:
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
    with ProgressDisplay(console) as shown:
        shown.stage_began(StageBegan("Training: seed 0", 2, "rounds"))
        shown.round_done(RoundDone("seed 0", "", 0, 1, "training", 0.1))
    assert isinstance(console.file, io.StringIO)
    assert "2/2" in console.file.getvalue(), "the bar of a stage that ends is full"


def test_what_is_left_is_at_the_pace_so_far() -> None:
    assert time_left(10.0, 5, 10) == "about 10 s left"
    assert time_left(60.0, 1, 11) == "about 10 min left"
    assert time_left(3600.0, 1, 3) == "about 2.0 h left"
    assert [time_left(10.0, 0, 10), time_left(10.0, 10, 10), time_left(10.0, 5, None)] == ["", "", ""]


def test_a_terminal_says_how_many_arms_are_done_and_what_is_left() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with ProgressDisplay(console) as bars:
        for done, arm in enumerate(("retrain", "ascent", "none")):
            bars.stage_began(StageBegan(arm, arms=(done, 3)))
            time.sleep(0.02)
            bars.arm_done(ArmDone(arm, 1, 1, 3.0))
        bars.stage_began(StageBegan("Training: seed 1", 2, "rounds", (3, 3)))
        bars.round_done(RoundDone("seed 1", "", 0, 1, "training", 0.1))
        bars._bars.refresh()
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    assert "All arms" in drawn
    assert "3/3" in drawn
    assert "about 1 s left" in drawn
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert max(map(len, re.split(r"[\r\n]", plain))) <= 80


def test_nobody_is_shown_anything_where_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with shown(None) as bars:
        assert bars is None
    with shown(False) as bars:
        assert bars is None
    with shown(True) as bars:
        assert isinstance(bars, ProgressDisplay)


def test_a_notebook_is_shown_one_picture_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display")
    pictures: list[str] = []

    class Handle:
        def update(self, picture: Any) -> None:
            pictures[0] = picture.data

    def displayed(picture: Any, display_id: bool) -> Handle:
        pictures.append(picture.data)
        return Handle()

    monkeypatch.setattr(display, "display", displayed)
    with InNotebook() as picture:
        picture.noted(Noted("data <b>"))
        picture.stage_began(StageBegan("Training: seed 0", 2, "rounds", (0, 2)))
        assert "Training: seed 0 0 of 2, arm 1 of 2" in pictures[0]
        picture.round_done(RoundDone("seed 0", "", 0, 1, "training", 0.1))
        picture.stage_began(StageBegan("retrain"))
    [last] = pictures
    assert re.sub(r"\d+\.\d s", "T", last) == (
        "<pre style='margin:0'>data &lt;b&gt;\nTraining: seed 0 (1): T\nretrain: T</pre>"
    )
