"""A run's events on a terminal: bars, or a line a finished stage."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from palimpsest.simulator.world.protocols.events import ArmDone, Noted, RoundDone, Silent, StageBegan, TrainingDone


class Shown(Silent):
    """Progress bars with elapsed time on a terminal, one line a finished stage elsewhere. A context manager.

    Everything goes to the console given, which should write to stderr: stdout is for results.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._stage = StageBegan("")
        self._done = 0
        self._began = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        self._bars.stop()

    def stage_began(self, event: StageBegan) -> None:
        """Begin a stage; the one before is shown as done."""
        self._finish()
        self._stage, self._done, self._began = event, 0, time.monotonic()
        self._task = self._bars.add_task(event.name, total=event.total)

    def noted(self, event: Noted) -> None:
        """Print a line."""
        self._say(event.text)

    def round_done(self, event: RoundDone) -> None:
        """Move the bar of a training."""
        if self._stage.counts == "rounds" and not event.arm and event.phase == "training" and event.round > 0:
            self._advance()

    def training_done(self, event: TrainingDone) -> None:
        """Print a line, where trainings are no stages."""
        if self._stage.counts == "arms":
            self._say(f"Training and reference: {event.training}: {event.seconds:.1f} s")

    def arm_done(self, event: ArmDone) -> None:
        """Print a line and move the bar, where arms are no stages."""
        if self._stage.counts == "arms":
            self._say(f"{event.arm}: {event.seconds:.1f} s")
            self._advance()

    def _say(self, text: str) -> None:
        """Print a line; above the bars, where there are any."""
        self._console.print(text, highlight=False, markup=False)

    def _advance(self) -> None:
        self._done += 1
        if self._task is not None:
            self._bars.advance(self._task)

    def _finish(self) -> None:
        """Fill the bar of the stage that ends; without a terminal, write its line."""
        if self._task is None:
            return
        known = self._bars.tasks[self._task].total
        self._bars.update(self._task, total=known or max(self._done, 1), completed=known or max(self._done, 1))
        if not self._console.is_terminal:
            seconds = time.monotonic() - self._began
            count = f" ({self._done})" if self._done else ""
            self._say(f"{self._stage.name}{count}: {seconds:.1f} s")
        self._task = None
