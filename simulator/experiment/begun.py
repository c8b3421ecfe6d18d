"""What a run is begun with: written into its directory first, and compared where it is gone on with."""

import tomllib
import uuid
from pathlib import Path
from typing import Any

from palimpsest.simulator.experiment.given_data import asked_again
from palimpsest.simulator.experiment.given_model import check_is_trained, model_again, models_of
from palimpsest.simulator.experiment.secrecy import check_kept, check_same, remembered
from palimpsest.simulator.results.intact import check_places, remove_strays
from palimpsest.simulator.results.provenance import ANEW, machine, versions
from palimpsest.simulator.results.run_directory import RunDirectory, unused_directory
from palimpsest.simulator.results.seals import scenario_digest
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario, dump_toml, load_scenario
from palimpsest.simulator.world.data.datasets import version_of
from palimpsest.simulator.world.data.given import Dataset


def new_directory(scenario: Scenario, out: Path | None) -> RunDirectory:
    """Make a run's directory, with the resolved scenario and what it is run with.

    Raises:
        ScenarioError: ``out`` cannot be made, or holds something already.
    """
    path = out or unused_directory(scenario.name)
    directory = RunDirectory(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            helps = f", or go on: palimpsest resume {path}" if directory.scenario_file.is_file() else ""
            raise ScenarioError(f"--out {path} holds something already: name a new directory{helps}")
        text = dump_toml(scenario)
        begun = {"scenario": scenario_digest(tomllib.loads(text)), "run": uuid.uuid4().hex}
        directory.write_provenance(_provenance(scenario) | remembered(scenario) | begun)
        directory.write_scenario(text)
    except OSError as error:
        raise ScenarioError(f"--out {path} cannot be written to: {error.strerror}; name another place") from None
    return directory


def reopened(directory: RunDirectory, data: Dataset | None = None, model: Any = None) -> Scenario:
    """The scenario of a run that was interrupted, once nothing speaks against going on with it.

    Args:
        directory: of the run.
        data, model: those that the run was begun with, where a program handed them over.

    Raises:
        ScenarioError, RunFilesError: the directory is broken, or was begun with something else, or it is not known
            what it is called where it is tracked.
    """
    kind = model_again(model)
    check_places(directory)
    check_kept(directory)
    directory.check_scenario()
    directory.tracked.identity()
    scenario = load_scenario(directory.scenario_file)
    check_is_trained(scenario, kind)
    asked_again(scenario, data)
    _check_provenance(directory, scenario)
    remove_strays(directory)
    return scenario


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
        raise ScenarioError(f"{directory.path} does not say what it was run with (no provenance.json): {ANEW}")
    if not before.get("scenario"):
        raise ScenarioError(
            f"{directory.path} does not say which scenario it was begun with, as runs of older versions do not, so "
            f"that figures of another one might be mixed in: run it anew: palimpsest run {directory.scenario_file} "
            f"--out NEW"
        )
    for kind in now:
        changed = [name for name in now[kind] if before.get(kind, {}).get(name) != now[kind][name]]
        if changed:
            raise ScenarioError(
                f"{directory.path} was begun with other {kind} ({', '.join(changed)}): "
                f"finish it with those, or run it anew"
            )
