"""``palimpsest score`` and ``palimpsest challenge``. What takes time to import is imported within."""

import json
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.simulator.cli.console import FAILED, OUT, fail, input_errors, result_table

Run = Annotated[Path, typer.Argument(help="Of a finished run.")]


def score(
    directory: Run,
    attack: Annotated[str | None, typer.Option(help="The attack's name, your package's among them.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value of the attack; repeatable.")] = None,
    answers: Annotated[Path | None, typer.Option(help="Instead: a stranger's answers to a challenge.")] = None,
    transcript: Annotated[str | None, typer.Option(help="With --answers: name of the transcript's directory.")] = None,
) -> None:
    """Add an attack to a finished run, or score a stranger's answers, against the truth that lies there."""
    if (attack is None) == (answers is None) or (answers is None) != (transcript is None):
        fail("give --attack, or --answers with the --transcript that they are about")
    if answers is not None and transcript is not None:
        _strangers(directory, Path(transcript).name, answers)
        return
    assert attack is not None  # or it would have been refused
    with input_errors():
        from palimpsest.simulator.experiment import added_attack
        from palimpsest.simulator.scenario.options import keyed

        scored, tracked = added_attack.score(directory, {**keyed("--set", set_ or ()), "kind": attack})
    OUT.print(result_table(scored))
    OUT.print(f"added {attack} to {directory}", markup=False, soft_wrap=True)
    OUT.print(tracked.message, markup=False, soft_wrap=True)
    if not tracked.ok:
        raise typer.Exit(FAILED)


def challenge(
    directory: Run,
    out: Annotated[Path, typer.Option(help="Where to write: a directory for each transcript.")],
) -> None:
    """Hand out a run's transcripts to strangers: without truth, names and order. The run needs a secret."""
    with input_errors():
        from palimpsest.simulator.experiment.handed_out import hand_out

        for place in hand_out(directory, out):
            OUT.print(f"written: {place}", markup=False, soft_wrap=True)


def _strangers(directory: Path, transcript: str, answers: Path) -> None:
    """Print the figures of a stranger's answers, as JSON."""
    with input_errors():
        from palimpsest.simulator.experiment.handed_out import score_answers

        figures = score_answers(directory, transcript, answers)
    print(json.dumps(figures, indent=1))
