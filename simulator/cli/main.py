"""The ``palimpsest`` command. What takes time to import is imported by the command that needs it."""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import palimpsest.simulator.world.telemetry  # noqa: F401  # first: before Flower, Ray or MLflow

import typer  # isort: skip
from rich.console import Console  # isort: skip
from palimpsest.simulator.cli.progress import Shown  # isort: skip
from palimpsest.simulator.results.provenance import unused_directory  # isort: skip

if TYPE_CHECKING:
    from rich.table import Table

    from palimpsest.simulator.experiment.runner import Result
    from palimpsest.simulator.results.run_directory import RunFiles

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    help="Federated unlearning under an eavesdropper: what does a deletion reveal, and what does preventing that cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

Scenario = Annotated[
    str | None, typer.Argument(help="A shipped scenario's name, or a path; the default one if left out.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="key=value, such as data.clients=1000; repeatable.")]


def main() -> None:
    """Entry point of ``palimpsest``."""
    app()


@app.command()
def run(
    scenario: Scenario = None,
    set_: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Where to leave the results; runs/NAME-TIME if left out.")] = None,
) -> None:
    """Train, unlearn, eavesdrop, reconstruct, score and track: one whole scenario."""
    with _input_errors():
        from palimpsest.simulator.scenario.load import load_scenario

        loaded = load_scenario(scenario, set_ or ())
        directory = out or unused_directory(loaded.name)
        with _recoverable(directory), Shown(_err) as progress:
            from palimpsest.simulator.experiment import runner

            result = runner.run(loaded, directory, progress)
    _conclude(result)


@app.command()
def resume(directory: Annotated[Path, typer.Argument(help="Directory of a run that was interrupted.")]) -> None:
    """Finish a run that was interrupted; it ends with the digests of an unbroken one."""
    if not (directory / "scenario.toml").is_file():
        _fail(f"{directory} holds no run to resume: it has no scenario.toml")
    with _input_errors(), _recoverable(directory), Shown(_err) as progress:
        from palimpsest.simulator.experiment import runner

        result = runner.resume(directory, progress)
    _conclude(result)


@app.command()
def plan(scenario: Scenario = None, set_: Overrides = None) -> None:
    """Show the arms of a scenario and what they will cost, without running."""
    with _input_errors():
        from palimpsest.simulator.scenario.load import load_scenario

        loaded = load_scenario(scenario, set_ or ())
        from palimpsest.simulator.planning import estimate
        from palimpsest.simulator.planning.plan import plan as lay_out

        _out.print(estimate.table(lay_out(loaded), loaded))


@app.command()
def split(
    out: Annotated[Path, typer.Option(help="Where to write: site-0, site-1, ... in it.")],
    scenario: Scenario = None,
    set_: Overrides = None,
) -> None:
    """Write for each of a scenario's sites (runtime.sites) the records of its own clients, for a Flower deployment."""
    with _input_errors():
        from palimpsest.simulator.planning.sites import split as divide
        from palimpsest.simulator.scenario.load import load_scenario

        for place in divide(load_scenario(scenario, set_ or ()), out):
            _out.print(f"written: {place}", soft_wrap=True)


@app.command()
def attack(
    transcript: Annotated[Path, typer.Argument(help="One transcript: runs/RUN/transcripts/ARM.")],
    attacks: Annotated[list[str], typer.Option("--attack", help="An attack's name; repeatable.")],
    knowledge: Annotated[
        Path | None, typer.Option(help="knowledge.json; the one beside the releases if left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; reconstructions-ARM.safetensors if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the attack's own randomness.")] = 0,
) -> None:
    """Be the adversary alone: reconstruct from a transcript, with public knowledge and no ground truth."""
    with _input_errors():
        from palimpsest.simulator.cli import attack as adversary

        place = out or Path(f"reconstructions-{transcript.resolve().name}.safetensors")
        for written in adversary.attack(transcript, attacks, knowledge, seed, place, _out):
            _out.print(f"written: {written}", soft_wrap=True)


@app.command()
def report(
    directory: Annotated[Path | None, typer.Argument(help="Of a run; the newest under runs/ if left out.")] = None,
    track: Annotated[bool, typer.Option("--track", help="Upload to MLflow what is not there yet.")] = False,
) -> None:
    """Draw the table and the figures of a run again, from what it left."""
    with _input_errors():
        from palimpsest.simulator.figures.all import draw_all
        from palimpsest.simulator.results.comparison import write
        from palimpsest.simulator.results.run_directory import RunFiles

        place = directory or _newest()
        found = RunFiles.open(place)
        _out.print(_table(found))
        if (written := write(found)) is not None:
            _out.print(f"written: {written}", soft_wrap=True)
        for drawn in draw_all(place):
            _out.print(f"drawn: {drawn}", soft_wrap=True)
        if track:
            from palimpsest.simulator.tracking.upload import track as upload

            tracked = upload(place, str(found.scenario().get("tracking", {}).get("uri", "")))
            _out.print(tracked.message, soft_wrap=True)
            if not tracked.ok:
                raise typer.Exit(FAILED)


@app.command(name="list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="scenarios, datasets, models, unlearning, attacks or defenses.")
    ] = None,
) -> None:
    """List what there is to choose from, with what each needs and promises."""
    from palimpsest.simulator.cli.listing import KINDS, listing

    if kind is not None and kind not in KINDS:
        _fail(f"there is nothing called {kind!r} to list; give one of {', '.join(KINDS)}")
    for name in [kind] if kind else KINDS:
        _out.print(listing(name))


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 5000,
    uri: Annotated[
        str, typer.Option(help="Of the tracking store; mlflow.db in the working directory if left out.")
    ] = "",
) -> None:
    """Open MLflow's user interface on the tracking store, for this machine only."""
    from palimpsest.simulator.tracking.store import serve, store_file

    file = store_file(uri)
    if file is not None and not file.is_file():
        _fail(
            f"there is no tracking store {file} yet: start in the directory where you ran a scenario, or run one first"
        )
    _err.print(
        f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning   (Ctrl-C ends it)", soft_wrap=True
    )
    raise typer.Exit(serve(uri, port))


@app.command()
def bench(
    model: Annotated[list[str] | None, typer.Option(help="softmax, mlp, cnn; repeatable; all if left out.")] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="COHORT/POPULATION; repeatable; 1000/1000, 100/1000, 100/100 if left out.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds.")] = 5,
    without: Annotated[list[str] | None, typer.Option(help="A contestant to leave out; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    branches: Annotated[
        bool, typer.Option("--branches", help="Instead: fifty alternative deletions, each retrained, beside one.")
    ] = False,
    scale: Annotated[
        bool, typer.Option("--scale", help="Instead: what a round costs as population, cohort and model grow.")
    ] = False,
    most: Annotated[
        int, typer.Option(min=100, help="With --scale: largest cohort; models go up to 100 times as many parameters.")
    ] = 10_000,
    attacks: Annotated[
        int, typer.Option(min=0, help="Instead: attacks on so many deleted records, beside their published defaults.")
    ] = 0,
) -> None:
    """Measure client updates a second against plain Flower and plain loops on the same work."""
    if branches:
        from palimpsest.simulator.bench import branches as fifty

        found = fifty.measure(os.cpu_count() or 1, _err)
        _out.print(json.dumps(vars(found), indent=1) if as_json else str(found), soft_wrap=True)
        return
    if scale:
        from palimpsest.simulator.bench import scale as curves

        points = curves.measure(rounds, most, _err)
        _out.print(curves.as_json(points) if as_json else curves.table(points), soft_wrap=as_json)
        return
    if attacks:
        from palimpsest.simulator.bench.reconstruction import race, race_table

        races = race(attacks, published=1)
        found_lines = json.dumps([vars(line) for line in races], indent=1) if as_json else race_table(races)
        _out.print(found_lines, soft_wrap=as_json)
        return
    kinds, sizes = model or ["softmax", "mlp", "cnn"], size or ["1000/1000", "100/1000", "100/100"]
    for kind in kinds:
        if kind not in ("softmax", "mlp", "cnn"):
            _fail(f"--model {kind}: must be one of softmax, mlp, cnn")
    parsed = [_cohort_and_population(text) for text in sizes]
    from palimpsest.simulator.bench import table

    for name in without or []:
        if name not in table.CONTESTANTS[1:]:
            _fail(f"--without {name!r}: must be one of {', '.join(table.CONTESTANTS[1:])}")
    contestants = [name for name in table.CONTESTANTS if name not in (without or [])]
    lines = table.bench(kinds, parsed, rounds, contestants, _err)
    _out.print(table.as_json(lines) if as_json else table.table(lines), soft_wrap=as_json)
    if any(line.apart > table.AGREE for line in lines):
        _err.print("error: contestants ended with other weights: they did not do the same work")
        raise typer.Exit(FAILED)


def _cohort_and_population(text: str) -> tuple[int, int]:
    """Read ``COHORT/POPULATION``; return (population, cohort)."""
    cohort, _, population = text.partition("/")
    if not (cohort.isdigit() and population.isdigit() and 0 < int(cohort) <= int(population)):
        _fail(f"--size {text}: must be COHORT/POPULATION, such as 100/1000, the cohort at most the population")
    return int(population), int(cohort)


# --- how commands end ------------------------------------------------------------------------------------------------


def _fail(message: str) -> NoReturn:
    """Say what is wrong with the input, and end."""
    _err.print(f"error: {message}", markup=False, soft_wrap=True)
    raise typer.Exit(WRONG_INPUT)


@contextmanager
def _input_errors() -> Iterator[None]:
    """Turn what is wrong with the input into one message; anything else is a bug or a failed run."""
    try:
        yield
    except ValueError as error:
        if _is_input_error(error):
            _fail(str(error))
        raise


def _is_input_error(error: Exception) -> bool:
    from palimpsest.simulator.results.run_directory import RunFilesError
    from palimpsest.simulator.scenario.errors import ScenarioError
    from palimpsest.simulator.world.data.datasets import DataError
    from palimpsest.simulator.world.errors import TranscriptError

    return isinstance(error, ScenarioError | RunFilesError | DataError | TranscriptError)


@contextmanager
def _recoverable(directory: Path) -> Iterator[None]:
    """Where a run stops half-way, say why, where things are and how to go on; a traceback only for what is a bug."""
    try:
        yield
    except KeyboardInterrupt:
        _err.print(f"\ninterrupted. {_how_to_go_on(directory)}", markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if _is_input_error(error):
            raise
        from palimpsest.simulator.world.errors import RunFailure

        if not isinstance(error, RunFailure):
            traceback.print_exception(error, file=sys.stderr)
        said = f"error: the run failed: {error}. {_how_to_go_on(directory)}"
        _err.print(said.replace("..", "."), markup=False, soft_wrap=True)
        raise typer.Exit(FAILED) from None


def _how_to_go_on(directory: Path) -> str:
    if not (directory / "scenario.toml").is_file():
        return "Nothing has been written yet."
    return f"What is done so far is in {directory}; go on with: palimpsest resume {directory}"


def _conclude(result: "Result") -> None:
    """The table, and the place of every output."""
    from palimpsest.simulator.results.run_directory import RunFiles

    _out.print(_table(RunFiles(result.directory, result.results)))
    _out.print(f"results, figures and transcripts: {result.directory}", markup=False, soft_wrap=True)
    _out.print(result.tracked.message, markup=False, soft_wrap=True)


def _table(run: "RunFiles") -> "Table":
    """What a run found: ways of unlearning beside one another where it compares them, else what each gives away."""
    from palimpsest.simulator.results import comparison, report

    return comparison.table(run) if comparison.applies(run) else report.table(run.results, _out.width)


def _newest() -> Path:
    """The run under runs/ that finished last."""
    finished = sorted(Path("runs").glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        _fail("there is no finished run under runs/; name a run's directory")
    return finished[-1].parent
