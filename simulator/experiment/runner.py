"""The composition root: plan -> transcripts -> reconstructions -> scores -> results on disk -> tracking."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from palimpsest.simulator.attack_metrics import answers
from palimpsest.simulator.experiment import attackers
from palimpsest.simulator.experiment.begun import new_directory, reopened
from palimpsest.simulator.experiment.given_data import with_data
from palimpsest.simulator.experiment.given_model import with_model
from palimpsest.simulator.experiment.observers import Observers
from palimpsest.simulator.experiment.progress import shown
from palimpsest.simulator.experiment.result import Result
from palimpsest.simulator.experiment.schedule import Task, do_all
from palimpsest.simulator.federation import devices
from palimpsest.simulator.federation.cluster import check_hosts
from palimpsest.simulator.federation.federation import GridFederation
from palimpsest.simulator.federation.grids import Grid, open_grid
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.planning import limits
from palimpsest.simulator.planning.cautions import cautions, of_magnitudes
from palimpsest.simulator.planning.outline import outline
from palimpsest.simulator.planning.plan import Plan, plan
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.planning.previews import describe
from palimpsest.simulator.results.intact import alone
from palimpsest.simulator.results.provenance import git_commit, machine, user, versions
from palimpsest.simulator.results.reading import RunFilesError
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles
from palimpsest.simulator.results.schema import RunResults
from palimpsest.simulator.results.upgrade import VERSION
from palimpsest.simulator.scenario.load import Scenario, ScenarioError, load_scenario
from palimpsest.simulator.scenario.registry import card
from palimpsest.simulator.tracking.live import Live
from palimpsest.simulator.tracking.store import check_store
from palimpsest.simulator.world.data.given import Dataset
from palimpsest.simulator.world.files import cache_directory
from palimpsest.simulator.world.protocols.events import Noted, Observer, StageBegan
from palimpsest.simulator.world.specs import Precision


def run(
    scenario: Scenario | str | Path | Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    observer: Observer | None = None,
    *,
    set: Mapping[str, Any] | Sequence[str] = (),
    data: Dataset | None = None,
    model: Any = None,
    progress: bool | None = None,
    yes: bool = False,
) -> Result:
    """Run a scenario on this machine (or on the Ray cluster that it names).

    Args:
        scenario: what to run: a shipped scenario's name, the path of a TOML file, its content as dictionaries, or one
            that is loaded already; None: the default scenario.
        out: where to leave the results; ``runs/<name>-<time>`` where not given. Must not exist or be empty.
        observer: is told what the data are, and what happens, as it happens.
        set: changes to it, ``{"data.clients": 50}``, see ``load_scenario``.
        data: records in memory, in place of the scenario's source.
        model: a ``torch.nn.Module``, a class of modules or a function that returns one, or a ``ModelCard``, in place
            of the scenario's model; see ``world.models.given.remember``.
        progress: whether stages and what is left of them are shown; None: in a terminal or a notebook, unless there is
            an observer.
        yes: run it although it takes more memory than there is, or days, see ``planning.limits``.

    Raises:
        ScenarioError, DataError, ModelError: the scenario does not fit its data, its model or this machine, or ``out``
            cannot be used.
    """
    loaded = load_scenario(scenario, set)
    if data is not None:
        loaded = with_data(loaded, data)
    if model is not None:
        loaded = with_model(loaded, model)
    check_store(loaded.tracking.uri)
    with _watched(progress, observer) as watching:
        check_hosts(loaded.runtime)
        _check_size(loaded, yes, watching)
        preparation = prepare(loaded)
        directory = new_directory(loaded, None if out is None else Path(out))
        return _run_in(directory, loaded, preparation, Observers.of(directory.path, watching))


def resume(
    directory: str | Path,
    observer: Observer | None = None,
    *,
    data: Dataset | None = None,
    model: Any = None,
    progress: bool | None = None,
) -> Result:
    """Finish a run that was interrupted: finished arms are kept, others run again, to the same digests.

    Args:
        directory: of the run.
        observer: is told what the data are, and what happens, as it happens.
        data: those that the run was begun with, where it was begun with ``data``.
        model: that the run was begun with, where it was begun with ``model``.
        progress: as for ``run``.

    Raises:
        ScenarioError, RunFilesError: the directory holds no resolved scenario, or one that was changed since, or was
            begun with other data, libraries or CPU, or with another model, or is broken.
    """
    place = RunDirectory(Path(directory))
    scenario = reopened(place, data, model)
    check_store(scenario.tracking.uri)
    with _watched(progress, observer) as watching:
        return _run_in(place, scenario, prepare(scenario), Observers.of(place.path, watching))


@contextmanager
def _watched(progress: bool | None, observer: Observer | None) -> Iterator[Observer | None]:
    """The observer and what shows progress, as one; None where there is neither."""
    with shown(False if progress is None and observer is not None else progress) as bars:
        both = [one for one in (observer, bars) if one is not None]
        yield both[0] if len(both) == 1 else Observers(both) if both else None


def run_on_grid(scenario: Scenario, grid: Grid, out: Path | None = None, observer: Observer | None = None) -> Result:
    """Run a scenario on hosts that somebody else provides: ``flwr run`` or a Flower deployment."""
    check_store(scenario.tracking.uri)
    preparation = prepare(scenario)
    directory = new_directory(scenario, out)
    observers = Observers.of(directory.path, observer)
    _write_plan(directory, scenario, preparation)
    with alone(directory), Live(directory.path, scenario.tracking.uri) as live:
        return _finish(directory, simulate(scenario, preparation, directory.path, grid, observers), observers, live)


def _check_size(scenario: Scenario, yes: bool, observer: Observer | None) -> None:
    for line in limits.check(plan(scenario), scenario, yes):
        if observer is not None:
            observer.noted(Noted(line))


def prepare(scenario: Scenario) -> list[PreparedTraining]:
    """Load the data of every training and check that the scenario fits them, before anything is started or written.

    Raises:
        DataError, ScenarioError: one sentence that says what does not fit.
    """
    _check_answers(scenario)
    root = cache_directory() / "populations"
    return [PreparedTraining.of(scenario, prefix, root) for prefix in plan(scenario).prefixes]


def _check_answers(scenario: Scenario) -> None:
    """Refuse an attack whose kind of answer nothing here scores: hours of training would come first.

    Raises:
        ScenarioError: there is no card for what an attack promises.
    """
    known = answers.names()
    for kind in dict.fromkeys(attack.kind for arm in plan(scenario).arms for attack in arm.attacks):
        promised = card("attack", kind).promises
        if promised not in known and promised != "none":
            raise ScenarioError(
                f"attack {kind!r} answers with {promised!r}, which nothing here scores: there are {', '.join(known)}; "
                f"install the package that announces {promised!r} by the entry point {answers.ENTRY_POINTS}"
            )


def simulate(
    scenario: Scenario,
    preparation: Sequence[PreparedTraining],
    directory: Path,
    grid: Grid,
    observer: Observer | None = None,
) -> RunResults:
    """Run every arm that is not finished yet; write and return ``results.json``.

    Args:
        scenario: what to run.
        preparation: what ``prepare`` said of it.
        directory: path of the run's directory; exists.
        grid: the hosts.
        observer: is told what happens, as it happens.
    """
    outline, place = plan(scenario), RunDirectory(directory.resolve())
    observers = Observers.of(directory, observer)
    device = _device(scenario, preparation[0].federation(grid, "devices"), place, observers)
    if said := attackers.said_of_confinement():
        observers.noted(Noted(said))
    tasks = _left(place, scenario, outline, [replace(base, device=device) for base in preparation], observers)
    if tasks:
        place.results_file.unlink(missing_ok=True)  # of a run that was changed since it finished
    with one_thread():
        do_all(tasks, grid, observers)
    content = {
        "schema": VERSION,
        "scenario": scenario.name,
        "versions": versions(),
        "machine": {**machine(), "device": device, **_rounding(scenario.runtime.precision)},
        **({"secret": scenario.privacy.secret} if scenario.privacy.secret else {}),
        "arms": [place.arm(arm.id).result() for arm in outline.arms],
    }
    results = RunResults.model_validate(content)
    place.write_results(results)
    return results


def _rounding(precision: Precision) -> dict[str, str]:
    """What a result says of the precision that it was computed at, where it is not the full one."""
    return {} if precision == "highest" else {"precision": precision}


def _left(
    directory: RunDirectory,
    scenario: Scenario,
    outline: Plan,
    preparation: Sequence[PreparedTraining],
    observers: Observers,
) -> list[Task]:
    """The trainings with arms that are not finished, or are no longer what was written."""
    tasks, begun = [], directory.begun_with()
    for prefix, base in zip(outline.prefixes, preparation, strict=True):
        arms = tuple(arm for arm in prefix.arms if not _is_done(directory, arm.id, begun, observers))
        if arms:
            tasks.append(Task(directory, scenario, base, arms))
    return tasks


def _is_done(directory: RunDirectory, arm: str, begun: str, observers: Observers) -> bool:
    """Whether an arm need not be run; one that was changed is run again, and this is said."""
    files = directory.arm(arm)
    if not files.is_begun:
        return False
    if why := files.fault(begun):
        observers.noted(Noted(f"{arm} is run again: {why}"))
    return not why


def _run_in(
    directory: RunDirectory, scenario: Scenario, preparation: Sequence[PreparedTraining], observers: Observers
) -> Result:
    """Say what is known beforehand, open the hosts that the scenario asks for, and run on them."""
    for line in describe((base.setting, base.seed, base.population) for base in preparation):
        observers.noted(Noted(line))
    for line in cautions(scenario.privacy, ((base.setup.defense.parts(), base.setup.sizes) for base in preparation)):
        observers.noted(Noted(line))
    for line in of_magnitudes(plan(scenario), [base.population.clients for base in preparation]):
        observers.noted(Noted(line))
    with alone(directory):
        return _run_alone(directory, scenario, preparation, observers)


def _run_alone(
    directory: RunDirectory, scenario: Scenario, preparation: Sequence[PreparedTraining], observers: Observers
) -> Result:
    how = scenario.runtime
    _write_plan(directory, scenario, preparation)
    with Live(directory.path, scenario.tracking.uri) as live:
        observers.stage_began(StageBegan("Starting hosts"))
        with open_grid(how.backend, how.hosts, how.ray_address, gpus=how.device != "cpu") as grid:
            _make_ready()
            results = simulate(scenario, preparation, directory.path, grid, observers)
        return _finish(directory, results, observers, live)


def _write_plan(directory: RunDirectory, scenario: Scenario, preparation: Sequence[PreparedTraining]) -> None:
    """Write down what is known before anything starts; a run that is resumed keeps what it was begun with."""
    if not _has_plan(directory):
        about = outline(plan(scenario).prefixes, preparation)
        directory.write_plan({**about, "commit": git_commit(), "user": user()})


def _has_plan(directory: RunDirectory) -> bool:
    try:
        return bool(directory.plan())
    except RunFilesError:  # it is written anew
        return False


def _make_ready() -> None:
    """Import what the end of a run needs and what takes seconds, while hosts start by themselves."""
    import palimpsest.simulator.results.comparison  # noqa: F401
    from palimpsest.simulator.figures import all as figures

    figures.functions()


def _device(scenario: Scenario, federation: GridFederation, directory: RunDirectory, observers: Observers) -> str:
    """Choose where hosts compute, and say so; a run that is resumed computes where it was begun.

    Raises:
        DeviceError: the scenario asks for GPUs, and hosts have none.
        ScenarioError: ``auto`` does not choose again what the run was begun on.
    """
    wanted = scenario.runtime.device
    if wanted == "cpu":
        return "cpu"
    device = devices.choose(wanted, federation.gpus())
    observers.noted(Noted(devices.said_of(wanted, device, federation.gpus())))
    about = directory.provenance()
    if about is not None:
        if about.setdefault("device", device) != device:
            raise ScenarioError(
                f"{directory.path} was begun on {about['device']!r}, and runtime.device = {wanted!r} is {device!r} "
                f"here: finish it where there is the same, or run it anew"
            )
        directory.write_provenance(about)
    return device


def _finish(directory: RunDirectory, results: RunResults, observers: Observers, live: Live) -> Result:
    """Draw what a run has left on disk, and wait until all of it is tracked."""
    from palimpsest.simulator.figures import all as figures  # see _make_ready
    from palimpsest.simulator.results import comparison  # see _make_ready

    observers.stage_began(StageBegan("Drawing figures"))
    figures.draw_all(directory.path)
    comparison.write(RunFiles(directory, results))
    observers.stage_began(StageBegan("Tracking in MLflow"))
    return Result(directory.path, results, live.finish())
