"""The composition root: plan -> transcripts -> reconstructions -> scores -> results on disk -> tracking."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from palimpsest.simulator.attack_metrics import answers
from palimpsest.simulator.experiment import attackers
from palimpsest.simulator.experiment.given_data import asked_again, with_data
from palimpsest.simulator.experiment.given_model import check_is_trained, model_again, models_of, with_model
from palimpsest.simulator.experiment.observers import Observers
from palimpsest.simulator.experiment.progress import shown
from palimpsest.simulator.experiment.result import Result
from palimpsest.simulator.experiment.schedule import Task, do_all
from palimpsest.simulator.experiment.secrecy import check_kept, check_same, remembered
from palimpsest.simulator.federation import devices
from palimpsest.simulator.federation.federation import GridFederation
from palimpsest.simulator.federation.grids import Grid, open_grid
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.planning.cautions import cautions
from palimpsest.simulator.planning.outline import outline
from palimpsest.simulator.planning.plan import Plan, plan
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.planning.previews import describe
from palimpsest.simulator.results.provenance import git_commit, machine, user, versions
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles, unused_directory
from palimpsest.simulator.results.schema import RunResults
from palimpsest.simulator.results.upgrade import VERSION
from palimpsest.simulator.scenario.load import Scenario, ScenarioError, dump_toml, load_scenario
from palimpsest.simulator.scenario.registry import card
from palimpsest.simulator.tracking.live import Live
from palimpsest.simulator.world.data.datasets import version_of
from palimpsest.simulator.world.data.given import Dataset
from palimpsest.simulator.world.files import cache_directory
from palimpsest.simulator.world.protocols.events import Noted, Observer, StageBegan


def run(
    scenario: Scenario | str | Path | Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    observer: Observer | None = None,
    *,
    set: Mapping[str, Any] | Sequence[str] = (),
    data: Dataset | None = None,
    model: Any = None,
    progress: bool | None = None,
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

    Raises:
        ScenarioError, DataError, ModelError: the scenario does not fit its data or its model, or ``out`` cannot be
            used.
    """
    loaded = load_scenario(scenario, set)
    if data is not None:
        loaded = with_data(loaded, data)
    if model is not None:
        loaded = with_model(loaded, model)
    with _watched(progress, observer) as watching:
        preparation = prepare(loaded)
        directory = _new_directory(loaded, None if out is None else Path(out))
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
        ScenarioError: the directory holds no resolved scenario, or was begun with other data, libraries or CPU, or
            with another model.
    """
    place, kind = RunDirectory(Path(directory)), model_again(model)
    check_kept(place)
    scenario = load_scenario(place.scenario_file)
    check_is_trained(scenario, kind)
    asked_again(scenario, data)
    _check_provenance(place, scenario)
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
    preparation = prepare(scenario)
    directory = _new_directory(scenario, out)
    observers = Observers.of(directory.path, observer)
    _write_plan(directory, scenario, preparation)
    with Live(directory.path, scenario.tracking.uri) as live:
        return _finish(directory, simulate(scenario, preparation, directory.path, grid, observers), observers, live)


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
    with one_thread():
        do_all(
            _left(place, scenario, outline, [replace(base, device=device) for base in preparation]),
            grid,
            observers,
        )
    content = {
        "schema": VERSION,
        "scenario": scenario.name,
        "versions": versions(),
        "machine": {**machine(), "device": device},
        **({"secret": scenario.privacy.secret} if scenario.privacy.secret else {}),
        "arms": [place.arm(arm.id).result() for arm in outline.arms],
    }
    results = RunResults.model_validate(content)
    place.write_results(results)
    return results


def _left(
    directory: RunDirectory, scenario: Scenario, outline: Plan, preparation: Sequence[PreparedTraining]
) -> list[Task]:
    """The trainings with arms that are not finished."""
    tasks = []
    for prefix, base in zip(outline.prefixes, preparation, strict=True):
        arms = tuple(arm for arm in prefix.arms if not directory.arm(arm.id).is_finished)
        if arms:
            tasks.append(Task(directory, scenario, base, arms))
    return tasks


def _run_in(
    directory: RunDirectory, scenario: Scenario, preparation: Sequence[PreparedTraining], observers: Observers
) -> Result:
    """Open the hosts that the scenario asks for, and run on them."""
    how = scenario.runtime
    for line in describe((base.setting, base.seed, base.population) for base in preparation):
        observers.noted(Noted(line))
    for line in cautions(scenario.privacy, ((base.setup.defense.parts(), base.setup.sizes) for base in preparation)):
        observers.noted(Noted(line))
    _write_plan(directory, scenario, preparation)
    with Live(directory.path, scenario.tracking.uri) as live:
        observers.stage_began(StageBegan("Starting hosts"))
        with open_grid(how.backend, how.hosts, how.ray_address, gpus=how.device != "cpu") as grid:
            _make_ready()
            results = simulate(scenario, preparation, directory.path, grid, observers)
        return _finish(directory, results, observers, live)


def _write_plan(directory: RunDirectory, scenario: Scenario, preparation: Sequence[PreparedTraining]) -> None:
    """Write down what is known before anything starts; a run that is resumed keeps what it was begun with."""
    if not directory.plan_file.is_file():
        about = outline(plan(scenario).prefixes, preparation)
        directory.write_plan({**about, "commit": git_commit(), "user": user()})


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


def _new_directory(scenario: Scenario, out: Path | None) -> RunDirectory:
    """Make a run's directory, with the resolved scenario and what it is run with.

    Raises:
        ScenarioError: ``out`` cannot be made, or holds something already.
    """
    path = out or unused_directory(scenario.name)
    directory = RunDirectory(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ScenarioError(f"--out {path} holds something already: name a new directory, or resume it")
        directory.write_provenance(_provenance(scenario) | remembered(scenario))
        directory.write_scenario(dump_toml(scenario))
    except OSError as error:
        raise ScenarioError(f"--out {path} cannot be written to: {error.strerror}; name another place") from None
    return directory


def _provenance(scenario: Scenario) -> dict[str, Any]:
    """What bits depend on beside the scenario: a run resumed with other data or libraries would mix two results."""
    sources = {setting.data.source: version_of(setting.data.source) for setting in scenario.settings()}
    models = models_of(scenario)
    return {"versions": versions(), "machine": machine(), "sources": sources} | ({"models": models} if models else {})


def _check_provenance(directory: RunDirectory, scenario: Scenario) -> None:
    """Refuse to resume what was begun with something else.

    Raises:
        ScenarioError: data, libraries, CPU or secret differ, or the directory does not say.
    """
    check_same(directory, scenario)
    before, now = directory.provenance(), _provenance(scenario)
    if before is None:
        raise ScenarioError(f"{directory.path} does not say what it was run with (no provenance.json): run it anew")
    for kind in now:
        changed = [name for name in now[kind] if before[kind].get(name) != now[kind][name]]
        if changed:
            raise ScenarioError(
                f"{directory.path} was begun with other {kind} ({', '.join(changed)}): "
                f"finish it with those, or run it anew"
            )
