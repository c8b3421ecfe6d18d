"""``palimpsest score``: a new attack on a run that is done. What takes time to import is imported within."""

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.simulator.cli.console import FAILED, OUT, input_errors, result_table


def score(
    directory: Annotated[Path, typer.Argument(help="Of a finished run.")],
    attack: Annotated[str, typer.Option(help="The attack's name, your package's among them.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value of the attack; repeatable.")] = None,
) -> None:
    """Add an attack to a finished run: scored against the truth that lies there, drawn and tracked as one more."""
    with input_errors():
        from palimpsest.simulator.experiment import added_attack
        from palimpsest.simulator.scenario.options import keyed

        found, tracked = added_attack.score(directory, {**keyed("--set", set_ or ()), "kind": attack})
    OUT.print(result_table(found))
    OUT.print(f"added {attack} to {directory}", markup=False, soft_wrap=True)
    OUT.print(tracked.message, markup=False, soft_wrap=True)
    if not tracked.ok:
        raise typer.Exit(FAILED)
