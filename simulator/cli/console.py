"""How commands end: what is wrong with the input is one sentence, a run that stops says how to go on."""

import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.table import Table

    from palimpsest.simulator.experiment.result import Result
    from palimpsest.simulator.results.run_directory import RunFiles

FAILED, WRONG_INPUT = 1, 2
_FEW = 3
"""Arms without scores of which a line names so many."""


class SteadyConsole(Console):
    """A console that nothing steers which a data set, a scenario or a package of a stranger has named."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed, with escapes in the place of characters that move a cursor or turn text round."""
        from palimpsest.simulator.world.errors import printable

        for segment in super().render(renderable, options):
            if segment.control is None and not segment.text.isprintable():
                said = "\n".join(map(printable, segment.text.split("\n")))
                yield Segment(said, segment.style)
            else:
                yield segment


OUT = SteadyConsole(highlight=False)
ERR = SteadyConsole(stderr=True, highlight=False)


def fail(message: str) -> NoReturn:
    """Say what is wrong with the input, and end; what a stranger wrote may be in the message."""
    from palimpsest.simulator.world.errors import masked, printable

    said = "\n".join(map(printable, masked(message).split("\n")))
    ERR.print(f"error: {said}", markup=False, soft_wrap=True)
    raise typer.Exit(WRONG_INPUT)


@contextmanager
def input_errors() -> Iterator[None]:
    """Turn what is wrong with the input into one message; anything else is a bug or a failed run."""
    try:
        yield
    except ValueError as error:
        if _is_input_error(error):
            fail(str(error))
        raise
    except OSError as error:
        from palimpsest.simulator.world.errors import disk_fault

        if not (said := disk_fault(error)):
            raise
        ERR.print(f"error: {said}.", markup=False, soft_wrap=True)
        raise typer.Exit(FAILED) from None


def _is_input_error(error: Exception) -> bool:
    from palimpsest.simulator.results.schema import RunFilesError
    from palimpsest.simulator.scenario.errors import ScenarioError
    from palimpsest.simulator.world.errors import DataError, ModelError, TranscriptError

    return isinstance(error, ScenarioError | RunFilesError | DataError | ModelError | TranscriptError)


@contextmanager
def recoverable(directory: Path) -> Iterator[None]:
    """Where a run stops half-way, say why, where things are and how to go on; a traceback only for what is a bug."""
    try:
        yield
    except KeyboardInterrupt:
        interrupted(_how_to_go_on(directory))
    except Exception as error:
        if _is_input_error(error):
            raise
        from palimpsest.simulator.world.errors import RunFailure, SettledFailure, disk_fault, masked

        if isinstance(error, SettledFailure):
            said = (
                f"error: the run failed: {error}; going on with it would end the same way. {_how_to_change(directory)}"
            )
            ERR.print(said, markup=False, soft_wrap=True)
            raise typer.Exit(FAILED) from None
        refused = disk_fault(error, directory)
        if not refused and not isinstance(error, RunFailure):
            print(masked("".join(traceback.format_exception(error))), file=sys.stderr)
        reason = str(refused or error).rstrip(".")
        said = masked(f"error: the run failed: {reason}. {_how_to_go_on(directory)}")
        ERR.print(said, markup=False, soft_wrap=True)
        raise typer.Exit(FAILED) from None


def _how_to_go_on(directory: Path) -> str:
    from palimpsest.simulator.results.run_directory import RunDirectory

    if not RunDirectory(directory).scenario_file.is_file():
        return "Nothing has been written yet."
    if RunDirectory(directory).scenario().get("privacy", {}).get("secret") == "random":
        return f"What is done so far is in {directory}; its random secret is gone, so that it can only be run anew"
    return f"What is done so far is in {directory}; go on with: palimpsest resume {directory}"


def _how_to_change(directory: Path) -> str:
    from palimpsest.simulator.results.run_directory import RunDirectory

    file = RunDirectory(directory).scenario_file
    return f"What is done so far is in {directory}; run it anew with: palimpsest run {file} --set KEY=VALUE --out NEW"


def interrupted(then: str = "") -> NoReturn:
    """Say which signal has ended the command, and end; whoever would read it may be gone with its terminal."""
    from palimpsest.simulator.world.signals import exit_code, received

    with suppress(OSError, ValueError):
        ERR.print(f"\nended by {received().name}. {then}".rstrip(), markup=False, soft_wrap=True)
    raise typer.Exit(exit_code()) from None


class Interruptible(TyperGroup):
    """Commands that a signal ends with a sentence, whatever they are doing."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            interrupted()


def conclude(result: "Result") -> None:
    """The table, and the place of every output; arms without scores, and exit code 1 where none has any."""
    from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles

    OUT.print(result_table(RunFiles(RunDirectory(result.directory), result.results)))
    OUT.print(f"results, figures and transcripts: {result.directory}", markup=False, soft_wrap=True)
    if result.tracked is not None:
        OUT.print(result.tracked.message, markup=False, soft_wrap=True)
    arms = result.results.arms
    if lost := [arm for arm in arms if arm.diverged]:
        named = "; ".join(f"{arm.arm} ({arm.diverged})" for arm in lost[:_FEW])
        named += f"; and {len(lost) - _FEW} more, see the table" if len(lost) > _FEW else ""
        said = f"{len(lost)} of {len(arms)} arms {'have' if len(lost) > 1 else 'has'} no scores: {named}"
        how = f"{said}. {_how_to_change(result.directory)}"
        ERR.print(f"{'error' if len(lost) == len(arms) else 'warning'}: {how}", markup=False, soft_wrap=True)
        if len(lost) == len(arms):
            raise typer.Exit(FAILED)


def result_table(run: "RunFiles") -> "Table":
    """What a run found: ways of unlearning beside one another where it compares them, else what each gives away."""
    from palimpsest.simulator.results import comparison, noise_table, report

    if noise_table.applies(run):
        return noise_table.table(run)
    return comparison.table(run) if comparison.applies(run) else report.table(run.results, OUT.width)
