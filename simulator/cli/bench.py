"""``palimpsest bench``: what is measured, and how it is printed."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.simulator.cli.console import ERR, FAILED, OUT, fail

MODELS = ("softmax", "mlp", "cnn")


Models = Annotated[
    list[str] | None,
    typer.Option(help="A model of `palimpsest list`; repeatable; softmax, mlp and cnn if left out."),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        help="COHORT/POPULATION; repeatable; if left out 1000/1000, 100/1000 and 100/100; 100/100 of models "
        "without written-out gradients; 4/4 of models with more than a million parameters."
    ),
]
Rounds = Annotated[int, typer.Option(min=1, help="Measured rounds.")]
Without = Annotated[list[str] | None, typer.Option(help="A contestant to leave out; repeatable.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="Instead: ratios to loops in a minute; fails where one has fallen by half.")
]
Timeline = Annotated[
    Path | None, typer.Option(help="Instead: draw what each process of the default run does when, as a PNG.")
]
Branches = Annotated[
    bool, typer.Option("--branches", help="Instead: fifty alternative deletions, each retrained, beside one.")
]
Scale = Annotated[
    bool, typer.Option("--scale", help="Instead: what a round costs as population, cohort and model grow.")
]
Most = Annotated[
    int, typer.Option(min=100, help="With --scale: largest cohort; models go up to 100 times as many parameters.")
]
Private = Annotated[int, typer.Option(min=0, help="Instead: DP-SGD of so many clients, beside Opacus, in CPU time.")]
Attacks = Annotated[
    int, typer.Option(min=0, help="Instead: attacks on so many deleted records, beside their published defaults.")
]


def bench(
    model: Models = None,
    size: Sizes = None,
    rounds: Rounds = 5,
    without: Without = None,
    as_json: AsJson = False,
    quick: Quick = False,
    timeline: Timeline = None,
    branches: Branches = False,
    scale: Scale = False,
    most: Most = 10_000,
    private: Private = 0,
    attacks: Attacks = 0,
) -> None:
    """Measure client updates a second against plain Flower and plain loops on the same work."""
    if quick:
        _quick(as_json)
    elif timeline is not None:
        _timeline(timeline)
    elif branches:
        _branches(as_json)
    elif scale:
        _scale(rounds, most, as_json)
    elif private:
        _private(model or [], private, rounds, as_json)
    elif attacks:
        _attacks(attacks, as_json)
    else:
        _training(model or [], size or [], rounds, without or [], as_json)


def _branches(as_json: bool) -> None:
    """Fifty alternative deletions, each retrained, beside one retraining."""
    from palimpsest.simulator.bench import branches as fifty

    measured = fifty.measure(os.cpu_count() or 1, ERR)
    OUT.print(json.dumps(vars(measured), indent=1) if as_json else str(measured), soft_wrap=True)


def _scale(rounds: int, most: int, as_json: bool) -> None:
    """What a round costs as population, cohort and model grow."""
    from palimpsest.simulator.bench import scale as curves

    points = curves.measure(rounds, most, ERR)
    OUT.print(curves.as_json(points) if as_json else curves.table(points), soft_wrap=as_json)


def _attacks(records: int, as_json: bool) -> None:
    """Attacks on so many deleted records, beside their published defaults."""
    from palimpsest.simulator.bench.reconstruction import race, race_table

    races = race(records, published=1)
    shown = json.dumps([vars(line) for line in races], indent=1) if as_json else race_table(races)
    OUT.print(shown, soft_wrap=as_json)


def _private(models: Sequence[str], clients: int, turns: int, as_json: bool) -> None:
    """DP-SGD a client, beside Opacus."""
    from palimpsest.simulator.bench import private as beside_opacus
    from palimpsest.simulator.federation.threads import one_thread

    with one_thread():
        lines = beside_opacus.measure(_known(models), clients, turns, ERR)
    shown = json.dumps([vars(line) for line in lines], indent=1) if as_json else beside_opacus.table(lines)
    OUT.print(shown, soft_wrap=as_json)


def _known(models: Sequence[str]) -> list[str]:
    """The models asked for, or all."""
    for name in models:
        if name not in MODELS:
            fail(f"--model {name}: must be one of {', '.join(MODELS)}")
    return list(models or MODELS)


def _training(models: Sequence[str], sizes: Sequence[str], rounds: int, without: Sequence[str], as_json: bool) -> None:
    """Client updates a second, beside plain Flower and plain loops.

    Args:
        models: of the table of models; ``MODELS`` where empty.
        sizes: COHORT/POPULATION; those that suit each model where empty.
        rounds: that are measured.
        without: contestants to leave out.
        as_json: whether JSON is printed instead of a table.
    """
    parsed = [_cohort_and_population(text) for text in sizes]
    from palimpsest.simulator.bench import table

    for name in without:
        if name not in table.CONTESTANTS[1:]:
            fail(f"--without {name!r}: must be one of {', '.join(table.CONTESTANTS[1:])}")
    contestants = [name for name in table.CONTESTANTS if name not in without]
    lines = table.bench(_pieces(models or MODELS, parsed), rounds, contestants, ERR)
    OUT.print(table.as_json(lines) if as_json else table.table(lines, contestants), soft_wrap=as_json)
    if not all(line.same for line in lines):
        ERR.print("error: contestants ended with other weights: they did not do the same work")
        raise typer.Exit(FAILED)


def _pieces(models: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[tuple[str, int, int]]:
    """Model, population and cohort of each piece of work, size after size."""
    from palimpsest.simulator.bench import workloads
    from palimpsest.simulator.world.errors import ModelError
    from palimpsest.simulator.world.models.kinds import names

    for name in models:
        if name not in names():
            fail(f"--model {name}: must be one of {', '.join(names())}")
    try:
        for name in models:
            workloads.spec_of(name)
        wanted = {name: sizes or workloads.sizes_of(name) for name in models}
    except ModelError as error:
        fail(f"--model: {error}")
    in_turn = dict.fromkeys(size for some in wanted.values() for size in some)
    return [(name, *size) for size in in_turn for name, some in wanted.items() if size in some]


def _quick(as_json: bool) -> None:
    """Ratios to loops in a minute; fails where one is below half of what is recorded, and once more so."""
    from palimpsest.simulator.bench import quick as guard
    from palimpsest.simulator.bench import table

    contestants = [name for name in table.CONTESTANTS if name != guard.WITHOUT]
    lines = table.bench([(name, *guard.SIZE) for name in MODELS], guard.ROUNDS, contestants, ERR)
    found = guard.ratios(lines)
    if fallen := sorted({kind for kind, _ in guard.fallen(found)}):
        ERR.print(f"measured once more, as something else may have kept this machine busy: {', '.join(fallen)}")
        again = table.bench([(name, *guard.SIZE) for name in fallen], guard.ROUNDS, contestants, ERR)
        lines, found = [*lines, *again], guard.better(found, guard.ratios(again))
    OUT.print(table.as_json(lines) if as_json else table.table(lines, contestants), soft_wrap=as_json)
    ERR.print(guard.row(found), markup=False, soft_wrap=True)
    said = list(guard.fallen(found).values())
    said += [f"{line.kind}: {line.contestant} ended with other weights" for line in lines if not line.same]
    for sentence in said:
        ERR.print(f"error: {sentence}", markup=False, soft_wrap=True)
    if said:
        raise typer.Exit(FAILED)


def _timeline(file: Path) -> None:
    """What each process of the default run does when, as a picture."""
    from palimpsest.simulator.bench import timeline as watching

    if file.suffix != ".png" or not file.resolve().parent.is_dir():
        fail(f"--timeline {file}: must be a PNG file in a folder that exists, such as timeline.png")
    with tempfile.TemporaryDirectory() as place:
        watched = watching.measure([], Path(place))
    watching.draw(watched, file)
    OUT.print(f"written: {file}", markup=False, soft_wrap=True)


def _cohort_and_population(text: str) -> tuple[int, int]:
    """Read ``COHORT/POPULATION``; return (population, cohort)."""
    cohort, _, population = text.partition("/")
    if not (cohort.isdigit() and population.isdigit() and 0 < int(cohort) <= int(population)):
        fail(f"--size {text}: must be COHORT/POPULATION, such as 100/1000, the cohort at most the population")
    return int(population), int(cohort)
