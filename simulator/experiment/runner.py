"""The composition root: plan -> transcripts -> reconstructions -> scores -> results on disk -> tracking."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from palimpsest.simulator.attack_metrics import answers
from palimpsest.simulator.experiment.progress import Progress, Silent
from palimpsest.simulator.experiment.schedule import Task, do_all, finished
from palimpsest.simulator.federation import devices
from palimpsest.simulator.federation.federation import GridFederation
from palimpsest.simulator.federation.grids import Grid, open_grid
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.planning.plan import Plan, plan
from palimpsest.simulator.planning.prepared import Groundwork
from palimpsest.simulator.results.provenance import machine, unused_directory, versions
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import RunResults
from palimpsest.simulator.scenario.load import Scenario, ScenarioError, dump_toml, load_scenario
from palimpsest.simulator.scenario.registry import card
from palimpsest.simulator.tracking.upload import Tracked, track
from palimpsest.simulator.tracking.upload import prepare as prepare_tracking
from palimpsest.simulator.world.data.datasets import version_of
from palimpsest.simulator.world.files import cache_directory, write_atomically


@dataclass(frozen=True)
class Result:
    """What a run left.

    Attributes:
        directory: everything is in it.
        results: content of ``results.json``.
        tracked: what became of the upload to MLflow.
    """

    directory: Path
    results: dict[str, Any]
    tracked: Tracked


def run(scenario: Scenario, out: Path | None = None, progress: Progress | None = None) -> Result:
    """Run a scenario on this machine (or on the Ray cluster that it names).

    Args:
        scenario: what to run.
        out: where to leave the results; ``runs/<name>-<time>`` where not given. Must not exist or be empty.
        progress: is told how far the run is.

    Raises:
        ScenarioError, DataError: the scenario does not fit its data, or ``out`` cannot be used.
    """
    ground = prepare(scenario)
    return _run_in(_new_directory(scenario, out), scenario, ground, progress or Silent())


def resume(directory: Path, progress: Progress | None = None) -> Result:
    """Finish a run that was interrupted: finished arms are kept, others run again, to the same digests.

    Raises:
        ScenarioError: the directory holds no resolved scenario, or was begun with other data, libraries or CPU.
    """
    scenario = load_scenario(str(directory / "scenario.toml"))
    _check_provenance(directory, scenario)
    return _run_in(directory, scenario, prepare(scenario), progress or Silent())


def run_on_grid(scenario: Scenario, grid: Grid, out: Path | None = None, progress: Progress | None = None) -> Result:
    """Run a scenario on hosts that somebody else provides: ``flwr run`` or a Flower deployment."""
    ground = prepare(scenario)
    directory = _new_directory(scenario, out)
    return _finish(directory, scenario, simulate(scenario, ground, directory, grid, progress), progress or Silent())


def prepare(scenario: Scenario) -> list[Groundwork]:
    """Load the data of every training and check that the scenario fits them, before anything is started or written.

    Raises:
        DataError, ScenarioError: one sentence that says what does not fit.
    """
    _check_answers(scenario)
    root = cache_directory() / "populations"
    return [Groundwork.of(scenario, prefix, root) for prefix in plan(scenario).prefixes]


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
    scenario: Scenario, ground: Sequence[Groundwork], directory: Path, grid: Grid, progress: Progress | None = None
) -> dict[str, Any]:
    """Run every arm that is not finished yet; write and return ``results.json``.

    Args:
        scenario: what to run.
        ground: what ``prepare`` said of it.
        directory: of the run; exists.
        grid: the hosts.
        progress: is told how far the run is.
    """
    outline = plan(scenario)
    device = _device(scenario, ground[0].federation(grid, "devices"), directory, progress or Silent())
    with one_thread():
        do_all(
            _left(directory, scenario, outline, [replace(base, device=device) for base in ground]),
            grid,
            progress or Silent(),
        )
    results = {
        "schema": 1,
        "scenario": scenario.name,
        "versions": versions(),
        "machine": {**machine(), "device": device},
        "arms": [json.loads(finished(directory, arm).read_text()) for arm in outline.arms],
    }
    write_atomically(directory / "results.json", RunResults.model_validate(results).to_text())
    return results


def _left(directory: Path, scenario: Scenario, outline: Plan, ground: Sequence[Groundwork]) -> list[Task]:
    """The trainings with arms that are not finished."""
    tasks = []
    for prefix, base in zip(outline.prefixes, ground, strict=True):
        arms = tuple(arm for arm in prefix.arms if not finished(directory, arm).is_file())
        if arms:
            tasks.append(Task(directory.resolve(), scenario, base, arms))
    return tasks


def _run_in(directory: Path, scenario: Scenario, ground: Sequence[Groundwork], progress: Progress) -> Result:
    """Open the hosts that the scenario asks for, and run on them."""
    how = scenario.runtime
    progress.stage("Starting hosts", None)
    with open_grid(how.backend, how.hosts, how.ray_address, gpus=how.device != "cpu") as grid:
        _make_ready(scenario)
        results = simulate(scenario, ground, directory, grid, progress)
    return _finish(directory, scenario, results, progress)


def _make_ready(scenario: Scenario) -> None:
    """Do what the end of a run needs and what takes seconds to import or to create, while hosts start by themselves."""
    import palimpsest.simulator.results.comparison  # noqa: F401
    from palimpsest.simulator.figures import all as figures

    figures.functions()
    prepare_tracking(scenario.tracking.uri)


def _device(scenario: Scenario, federation: GridFederation, directory: Path, progress: Progress) -> str:
    """Choose where hosts compute, and say so; a run that is resumed computes where it was begun.

    Raises:
        DeviceError: the scenario asks for GPUs, and hosts have none.
        ScenarioError: ``auto`` does not choose again what the run was begun on.
    """
    wanted = scenario.runtime.device
    if wanted == "cpu":
        return "cpu"
    device = devices.choose(wanted, federation.gpus())
    progress.note(devices.said_of(wanted, device, federation.gpus()))
    path = directory / "provenance.json"
    if path.is_file():
        about = json.loads(path.read_text())
        if about.setdefault("device", device) != device:
            raise ScenarioError(
                f"{directory} was begun on {about['device']!r}, and runtime.device = {wanted!r} is {device!r} here: "
                f"finish it where there is the same, or run it anew"
            )
        write_atomically(path, json.dumps(about, indent=1))
    return device


def _finish(directory: Path, scenario: Scenario, results: dict[str, Any], progress: Progress) -> Result:
    """Draw and track what a run has left on disk."""
    from palimpsest.simulator.figures import all as figures  # see _make_ready
    from palimpsest.simulator.results import comparison  # see _make_ready

    progress.stage("Drawing figures", None)
    figures.draw_all(directory)
    comparison.write(RunFiles.open(directory))
    progress.stage("Tracking in MLflow", None)
    return Result(directory, results, track(directory, scenario.tracking.uri))


def _new_directory(scenario: Scenario, out: Path | None) -> Path:
    """Make a run's directory, with the resolved scenario and what it is run with.

    Raises:
        ScenarioError: ``out`` cannot be made, or holds something already.
    """
    directory = out or unused_directory(scenario.name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise ScenarioError(f"--out {directory} holds something already: name a new directory, or resume it")
        write_atomically(directory / "provenance.json", json.dumps(_provenance(scenario), indent=1))
        write_atomically(directory / "scenario.toml", dump_toml(scenario))
    except OSError as error:
        raise ScenarioError(f"--out {directory} cannot be written to: {error.strerror}; name another place") from None
    return directory


def _provenance(scenario: Scenario) -> dict[str, Any]:
    """What bits depend on beside the scenario: a run resumed with other data or libraries would mix two results."""
    sources = {setting.data.source: version_of(setting.data.source) for setting in scenario.settings()}
    return {"versions": versions(), "machine": machine(), "sources": sources}


def _check_provenance(directory: Path, scenario: Scenario) -> None:
    """Refuse to resume what was begun with something else.

    Raises:
        ScenarioError: data, libraries or CPU differ, or the directory does not say.
    """
    path = directory / "provenance.json"
    if not path.is_file():
        raise ScenarioError(f"{directory} does not say what it was run with (no provenance.json): run it anew")
    before, now = json.loads(path.read_text()), _provenance(scenario)
    for kind in now:
        changed = [name for name in now[kind] if before[kind].get(name) != now[kind][name]]
        if changed:
            raise ScenarioError(
                f"{directory} was begun with other {kind} ({', '.join(changed)}): finish it with those, or run it anew"
            )
