"""The ``palimpsest`` command. What takes time to import is imported by the command that needs it."""

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import palimpsest.simulator.world.telemetry  # noqa: F401  # first: before Flower, Ray or MLflow

import typer  # isort: skip
from palimpsest.simulator.cli.console import (  # isort: skip
    ERR,
    FAILED,
    OUT,
    Interruptible,
    conclude,
    fail,
    input_errors,
    recoverable,
    result_table,
)
from palimpsest.simulator.cli.audit import audit  # isort: skip
from palimpsest.simulator.cli.audit_dp import audit_dp  # isort: skip
from palimpsest.simulator.cli.bench import bench  # isort: skip
from palimpsest.simulator.cli.new import new  # isort: skip
from palimpsest.simulator.experiment.progress import ProgressDisplay  # isort: skip
from palimpsest.simulator.cli.score import challenge, score  # isort: skip

if TYPE_CHECKING:
    from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles

app = typer.Typer(
    cls=Interruptible,
    help="Federated unlearning under an eavesdropper: what does a deletion reveal, and what does preventing that cost?",
    no_args_is_help=True,
    suggest_commands=False,  # click does
    add_completion=False,
    pretty_exceptions_enable=False,
)

Scenario = Annotated[
    str | None,
    typer.Argument(help="A name of `palimpsest list scenarios`, or the path of a TOML file; the default if left out."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A change, such as data.clients=1000; variant.*.data.clients=1000 in all variants; repeatable.",
    ),
]


Yes = Annotated[bool, typer.Option("--yes", help="Although it takes more memory than this machine has, or days.")]


app.command()(audit)
app.command(name="audit-dp")(audit_dp)
app.command()(bench)
app.command()(challenge)
app.command()(new)
app.command()(score)


def _print_version(wanted: bool) -> None:
    if wanted:
        OUT.print(f"palimpsest {importlib.metadata.version('palimpsest')}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The command itself; ``palimpsest.simulator.__main__`` is its entry point."""
    app()


@app.command()
def run(
    scenario: Scenario = None,
    set_: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Where to leave the results; runs/NAME-TIME if left out.")] = None,
    yes: Yes = False,
) -> None:
    """Train, unlearn, eavesdrop, reconstruct, score and track: one whole scenario."""
    with input_errors():
        from palimpsest.simulator.scenario.load import load_scenario

        loaded = load_scenario(scenario, set_ or ())
        from palimpsest.simulator.results.run_directory import unused_directory

        directory = out or unused_directory(loaded.name)
        with recoverable(directory), ProgressDisplay(ERR) as shown:
            from palimpsest.simulator.experiment import runner

            result = runner.run(loaded, directory, shown, yes=yes)
    conclude(result)


@app.command()
def resume(directory: Annotated[Path, typer.Argument(help="Directory of a run that was interrupted.")]) -> None:
    """Finish a run that was interrupted; it ends with the digests of an unbroken one."""
    from palimpsest.simulator.results.run_directory import RunDirectory

    if not RunDirectory(directory).scenario_file.is_file():
        fail(f"{directory} holds no run to resume: it has no scenario.toml")
    with input_errors(), recoverable(directory), ProgressDisplay(ERR) as shown:
        from palimpsest.simulator.experiment import runner

        result = runner.resume(directory, shown)
    conclude(result)


@app.command()
def plan(scenario: Scenario = None, set_: Overrides = None, yes: Yes = False) -> None:
    """Show what was understood of the data, the arms of a scenario and what they will cost, without running."""
    with input_errors():
        from palimpsest.simulator.scenario.load import load_scenario

        loaded = load_scenario(scenario, set_ or ())
        from palimpsest.simulator.planning import cautions, estimate, limits, previews
        from palimpsest.simulator.planning.plan import plan as lay_out

        outline = lay_out(loaded)
        large = limits.check(outline, loaded, yes)
        lines = [*large, *previews.of_plan(outline), *cautions.of_plan(outline, loaded.privacy)]
        OUT.print("\n".join(lines), markup=False, soft_wrap=True)
        OUT.print(estimate.table(outline, loaded))


@app.command()
def split(
    out: Annotated[Path, typer.Option(help="Where to write: site-0, site-1, ... in it.")],
    scenario: Scenario = None,
    set_: Overrides = None,
) -> None:
    """Write for each of a scenario's sites (runtime.sites) the records of its own clients, for a Flower deployment."""
    with input_errors():
        from palimpsest.simulator.planning.sites import split as divide
        from palimpsest.simulator.scenario.load import load_scenario

        for place in divide(load_scenario(scenario, set_ or ()), out):
            OUT.print(f"written: {place}", soft_wrap=True)


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
) -> None:
    """Be the adversary alone: reconstruct from a transcript, with public knowledge and no ground truth."""
    with input_errors():
        from palimpsest.simulator.cli import attack as adversary

        place = out or Path(f"reconstructions-{transcript.resolve().name}.safetensors")
        for written in adversary.attack(transcript, attacks, knowledge, place, OUT):
            OUT.print(f"written: {written}", soft_wrap=True)


@app.command()
def report(
    directory: Annotated[Path | None, typer.Argument(help="Of a run; the newest under runs/ if left out.")] = None,
    track: Annotated[bool, typer.Option("--track", help="Upload to MLflow what is not there yet.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report as one page, figures in it, to send to others."),
    ] = None,
) -> None:
    """Draw the table and the figures of a run again, from what it left."""
    with input_errors():
        from palimpsest.simulator.results.intact import check_finished, check_places
        from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles, newest_run

        place = directory or newest_run()
        if place is None:
            fail("there is no finished run under runs/; name a run's directory")
        run = RunDirectory(place)
        check_places(run)
        if not track or run.is_finished:
            files = RunFiles.open(place)
            check_finished(files)
            drawn = _draw(files)
            if html is not None:
                OUT.print(f"written: {_written_page(files, html)}", soft_wrap=True)
            if not drawn:
                raise typer.Exit(FAILED)
        if track:
            _track(run)


def _draw(found: "RunFiles") -> bool:
    """Print the table of a finished run, and draw its figures; False where its disk takes none, which is said."""
    from palimpsest.simulator.world.errors import disk_fault

    OUT.print(result_table(found))
    try:
        _write_figures(found)
    except OSError as error:
        if not (said := disk_fault(error, found.directory.path)):
            raise
        ERR.print(f"warning: nothing is drawn anew: {said}; figures that are there stay", markup=False, soft_wrap=True)
        return False
    return True


def _write_figures(found: "RunFiles") -> None:
    from palimpsest.simulator.figures.all import draw_all
    from palimpsest.simulator.results.comparison import write

    if (written := write(found)) is not None:
        OUT.print(f"written: {written}", soft_wrap=True)
    for drawn in draw_all(found.directory.path):
        OUT.print(f"drawn: {drawn}", soft_wrap=True)


def _track(run: "RunDirectory") -> None:
    """Upload what is not there yet; of a run that was interrupted, what it has got so far."""
    from palimpsest.simulator.tracking.upload import track

    uri = run.scenario().get("tracking", {}).get("uri", "") if run.scenario_file.is_file() else ""
    tracked = track(run.path, str(uri))
    if not run.is_finished:
        OUT.print(f"{run.path} is not finished; go on with: palimpsest resume {run.path}", soft_wrap=True)
    OUT.print(tracked.message, markup=False, soft_wrap=True)
    if not tracked.ok:
        raise typer.Exit(FAILED)


def _written_page(run: "RunFiles", file: Path) -> Path:
    from palimpsest.simulator.figures.pictures import pictures
    from palimpsest.simulator.results.html_page import page

    try:
        file.write_text(page(run, pictures(run)), encoding="utf-8")
    except OSError as error:
        fail(f"--html {file} cannot be written to: {error.strerror}; name another place")
    return file


@app.command(name="list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="scenarios, datasets, models, strategies, unlearning, attacks, defenses, measures or figures."
        ),
    ] = None,
) -> None:
    """List what there is to choose from, with what each needs and promises."""
    from palimpsest.simulator.cli.listing import KINDS, listing

    if kind is not None and kind not in KINDS:
        from palimpsest.simulator.scenario.errors import closest

        fail(f"there is nothing called {kind!r} to list;{closest(kind, KINDS)} give one of {', '.join(KINDS)}")
    for name in [kind] if kind else KINDS:
        OUT.print(listing(name, OUT.width))


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 5000,
    uri: Annotated[
        str,
        typer.Option(help="Of the tracking store; MLFLOW_TRACKING_URI, else mlflow.db here, if left out."),
    ] = "",
) -> None:
    """Open MLflow's user interface on the runs of the newest experiment, for this machine only."""
    from palimpsest.simulator.tracking.page import WHAT_TO_CLICK
    from palimpsest.simulator.tracking.store import store_file
    from palimpsest.simulator.tracking.ui import PortBusyError, check_port, page_of, serve
    from palimpsest.simulator.world.errors import masked

    file = store_file(uri)
    if file is not None and not file.is_file():
        fail(
            f"there is no tracking store {file} yet: start in the directory where you ran a scenario, or run one first"
        )
    try:
        check_port(port)
    except PortBusyError as busy:
        fail(str(busy))
    page = page_of(uri, port)

    def ready() -> None:
        ERR.print(f"open {masked(page)}   (Ctrl-C ends it)\n{WHAT_TO_CLICK}", markup=False, soft_wrap=True)

    raise typer.Exit(serve(uri, port, ready))
