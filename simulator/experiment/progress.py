"""A run's events for whoever waits: bars on a terminal, a line a finished stage elsewhere, a picture in a notebook."""

import html
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from palimpsest.simulator.world.protocols.events import (
    ArmDone,
    Noted,
    Observer,
    RoundDone,
    Silent,
    StageBegan,
    TrainingDone,
)

_ALL = "All arms"
_PAUSE = 0.25
"""Seconds between two pictures in a notebook."""


def shown(wanted: bool | None) -> AbstractContextManager[Observer | None]:
    """Who shows a run's progress, where somebody waits for it.

    Args:
        wanted: None: in a notebook, or where stderr is a terminal; True: everywhere; False: nowhere.
    """
    if wanted is False:
        return nullcontext(None)
    if _in_notebook():
        return InNotebook()
    if wanted or sys.stderr.isatty():
        return ProgressDisplay(Console(stderr=True, highlight=False))
    return nullcontext(None)


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook; IPython is asked only where it is loaded already."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def time_left(seconds: float, done: float, total: float | None) -> str:
    """What is left at the pace so far, in words; empty where nothing tells."""
    if not total or not done or done >= total:
        return ""
    left = seconds / done * (total - done)
    if left < 90.0:
        return f"about {max(left, 1.0):.0f} s left"
    return f"about {left / 60.0:.0f} min left" if left < 5400.0 else f"about {left / 3600.0:.1f} h left"


class _Left(ProgressColumn):
    """What is left of a bar."""

    def render(self, task: Task) -> Text:
        """In words."""
        return Text(time_left(task.elapsed or 0.0, task.completed, task.total), style="dim")


class Staged(Silent):
    """Follows the stages of a run. A context manager."""

    def __init__(self) -> None:
        self._stage = StageBegan("")
        self._done = 0
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()

    def stage_began(self, event: StageBegan) -> None:
        """Begin a stage; the one before is done."""
        self._finish()
        self._stage, self._done, self._began = event, 0, time.monotonic()
        self._begin()

    def noted(self, event: Noted) -> None:
        """Say it."""
        self._say(event.text)

    def round_done(self, event: RoundDone) -> None:
        """A step of a training."""
        if self._stage.counts == "rounds" and not event.arm and event.phase == "training" and event.round > 0:
            self._step()

    def training_done(self, event: TrainingDone) -> None:
        """Say it, where trainings are no stages."""
        if self._stage.counts == "arms":
            self._say(f"Training and reference: {event.training}: {event.seconds:.1f} s")

    def arm_done(self, event: ArmDone) -> None:
        """Say it, and a step, where arms are no stages."""
        if self._stage.counts == "arms":
            self._say(f"{event.arm}: {event.seconds:.1f} s")
            self._step()

    def _step(self) -> None:
        self._done += 1
        self._moved()

    @property
    def _line(self) -> str:
        """The stage, as a line once it is over."""
        count = f" ({self._done})" if self._done else ""
        return f"{self._stage.name}{count}: {time.monotonic() - self._began:.1f} s"

    def _say(self, text: str) -> None:
        raise NotImplementedError

    def _begin(self) -> None:
        raise NotImplementedError

    def _moved(self) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError


class ProgressDisplay(Staged):
    """Progress bars with the time that passed and that is left on a terminal, one line a finished stage elsewhere.

    Everything goes to the console given, which should write to stderr: stdout is for results.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        width = max(12, min(28, console.width - 50))
        self._bars = Bars(
            TextColumn("{task.description:<" + str(width) + "}"),
            BarColumn(bar_width=max(6, min(32, console.width - width - 44))),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._all: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._bars.stop()

    def arm_done(self, event: ArmDone) -> None:
        """As before, and a step of all arms where they are done one after the other."""
        super().arm_done(event)
        if self._all is not None and self._stage.arms is not None:
            self._bars.advance(self._all)

    def _say(self, text: str) -> None:
        """Print a line; above the bars, where there are any."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=not self._console.is_terminal)

    def _begin(self) -> None:
        self._task = self._bars.add_task(self._stage.name, total=self._stage.total)
        if self._stage.arms is None or self._stage.arms[1] == 1:
            return
        done, count = self._stage.arms
        if self._all is None:
            self._all = self._bars.add_task(_ALL, total=count)
        self._bars.update(self._all, completed=done)

    def _moved(self) -> None:
        if self._task is not None:
            self._bars.advance(self._task)

    def _finish(self) -> None:
        """Fill the bar of the stage that ends; without a terminal, write its line."""
        if self._task is None:
            return
        known = self._bars.tasks[self._task].total
        self._bars.update(self._task, total=known or max(self._done, 1), completed=known or max(self._done, 1))
        if not self._console.is_terminal:
            self._say(self._line)
        self._task = None


class InNotebook(Staged):
    """One picture below the cell that is drawn again as the run goes on; in the end, the time of every stage."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._handle: Any = None
        self._drawn = 0.0

    def _say(self, text: str) -> None:
        self._lines.append(text)
        self._draw()

    def _begin(self) -> None:
        self._draw(now=True)

    def _moved(self) -> None:
        self._draw()

    def _finish(self) -> None:
        if self._stage.name:
            self._lines.append(self._line)
            self._stage = StageBegan("")
        self._draw(now=True)

    def _draw(self, now: bool = False) -> None:
        if not now and time.monotonic() - self._drawn < _PAUSE:
            return
        from IPython.display import HTML, display

        self._drawn = time.monotonic()
        picture = HTML(f"<pre style='margin:0'>{html.escape(self._text())}</pre>")  # type: ignore[no-untyped-call]
        if self._handle is None:
            self._handle = display(picture, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(picture)

    def _text(self) -> str:
        """What is done, and how far the stage is."""
        if not self._stage.name:
            return "\n".join(self._lines)
        seconds, stage = time.monotonic() - self._began, self._stage
        steps = f" {self._done} of {stage.total}" if stage.total else ""
        arms = f", arm {stage.arms[0] + 1} of {stage.arms[1]}" if stage.arms else ""
        left = time_left(seconds, self._done, stage.total)
        return "\n".join([*self._lines, f"{stage.name}{steps}{arms}: {seconds:.0f} s{', ' if left else ''}{left} ..."])
