"""A run's directory that was damaged is made whole again to the same figures, or refused with one sentence.

Twenty-four damages are drawn, and resumed within this process; with ``PALIMPSEST_SOAK=1`` four hundred, and forty more
go through the commands ``resume`` and ``report`` in processes of their own.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.experiment.begun import new_directory, reopened
from palimpsest.simulator.experiment.observers import Observers
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.results.intact import check_finished, check_places
from palimpsest.simulator.results.reading import RunFilesError
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles
from palimpsest.simulator.results.seals import scenario_digest
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.protocols.events import Noted, Silent
from tests.support.damages import FOLDER_DAMAGES, drawn
from tests.support.scenarios import small_scenario

SOAK = os.environ.get("PALIMPSEST_SOAK") == "1"
DRAWN = 400 if SOAK else 24
PATIENCE = 60
MEASURED = ("second", "memory", "verdict", ".cost.", "speed")
"""In paths of figures that differ between two runs of one scenario."""


def _scenario(**changes: Any) -> Scenario:
    return small_scenario(unlearning=[{"method": "ascent"}, {"method": "none"}], **changes)


def _run(place: Path, scenario: Scenario) -> None:
    directory = new_directory(scenario, place)
    simulate(scenario, prepare(scenario), directory.path, SerialGrid(1))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished") / "run"
    _run(place, _scenario())
    return place


@pytest.fixture(scope="module")
def half(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, killed while it worked on its second arm."""
    place = tmp_path_factory.mktemp("half") / "run"
    shutil.copytree(finished, place)
    (place / "results.json").unlink()
    for left in place.rglob("none--none--seed0*"):
        if left.is_file():
            left.unlink()
    (place / "arms" / ".none--none--seed0.json.999999.draft").write_text("{")
    return place


def _go_on(place: Path) -> None:
    """What ``resume`` does, but for figures and tracking."""
    scenario = reopened(RunDirectory(place))
    simulate(scenario, prepare(scenario), place, SerialGrid(1))


def _figures(place: Path) -> dict[str, Any]:
    """All that two runs of one scenario have in common, by its path."""
    content = json.loads((place / "results.json").read_text())
    return {path: value for path, value in _leaves(content["arms"], "") if not any(part in path for part in MEASURED)}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{path}.{key}")
    else:
        yield path, pytest.approx(value, rel=1e-6) if isinstance(value, float) else value


@contextmanager
def _in_time() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _damaged(base: Path, place: Path, seed: int) -> str:
    """A copy with one damage, or two; says which."""
    draw = random.Random(seed)
    shutil.copytree(base, place)
    said = []
    for name, where, damage in islice(drawn(place, draw), draw.choice([1, 1, 2])):
        target = place / where
        if not target.is_symlink() and target.is_dir() if name in FOLDER_DAMAGES else target.is_file():
            damage(target, draw)
            said.append(f"{name} {where}")
    return "; ".join(said)


@pytest.mark.parametrize("seed", range(DRAWN))
def test_a_damaged_run_is_made_whole_or_refused(finished: Path, half: Path, tmp_path: Path, seed: int) -> None:
    base, place = (finished, half)[seed % 2], tmp_path / "run"
    said = _damaged(base, place, seed)
    with _in_time():
        try:
            _go_on(place)
        except (ScenarioError, RunFilesError) as refusal:
            assert "\n" not in str(refusal), said
            return
        check_finished(RunFiles.open(place))
    assert _figures(place) == _figures(finished), said
    begun, now = RunDirectory(finished).scenario(), RunDirectory(place).scenario()
    assert scenario_digest(now) == scenario_digest(begun), said
    assert not list(place.rglob("*.draft")), said


@pytest.mark.skipif(not SOAK, reason="a process of its own each: PALIMPSEST_SOAK=1")
@pytest.mark.parametrize("command", ["resume", "report"])
@pytest.mark.parametrize("seed", range(1000, 1020))
def test_commands_end_well_on_a_damaged_run(finished: Path, tmp_path: Path, seed: int, command: str) -> None:
    place = tmp_path / "run"
    said = _damaged(finished, place, seed)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-m", "palimpsest.simulator", command, str(place)],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode in (0, 2), (said, done.stderr)
    assert "Traceback" not in done.stderr, said
    if done.returncode == 2:
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, (said, done.stderr)
    elif command == "resume":
        assert _figures(place) == _figures(finished), said


def _refused(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments))
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_figures_are_never_shown_or_sent_under_another_scenario(finished: Path, tmp_path: Path) -> None:
    place = tmp_path / "run"
    shutil.copytree(finished, place)
    text = (place / "scenario.toml").read_text()
    (place / "scenario.toml").write_text(text.replace("rounds = 3", "rounds = 4"))
    for command in (["resume"], ["report"], ["report", "--track"], ["score", "--attack", "average"]):
        assert "scenario.toml was changed since the run was begun" in _refused(command[0], str(place), *command[1:])
    assert not (place / "tracking.json").exists()


def test_where_a_run_goes_on_and_is_tracked_may_change(finished: Path, tmp_path: Path) -> None:
    place = tmp_path / "run"
    shutil.copytree(finished, place)
    text = (place / "scenario.toml").read_text()
    (place / "scenario.toml").write_text(
        text.replace('hosts = "auto"', "hosts = 3").replace('uri = ""', 'uri = "x.db"')
    )
    assert reopened(RunDirectory(place)).runtime.hosts == 3


def test_a_run_of_a_version_without_seals_is_told_what_to_do(finished: Path, tmp_path: Path) -> None:
    place = tmp_path / "run"
    shutil.copytree(finished, place)
    about = json.loads((place / "provenance.json").read_text())
    (place / "provenance.json").write_text(json.dumps({key: about[key] for key in about if key != "scenario"}))
    for arm in (place / "arms").iterdir():
        arm.write_text(json.dumps({key: value for key, value in json.loads(arm.read_text()).items() if key != "seal"}))
    assert f"palimpsest run {place}/scenario.toml --out NEW" in _refused("resume", str(place))
    check_finished(RunFiles.open(place))  # it can still be shown


def test_an_arm_that_was_changed_is_run_again_and_this_is_said(finished: Path, tmp_path: Path) -> None:
    place, said = tmp_path / "run", list[str]()
    shutil.copytree(finished, place)
    (place / "scores" / "ascent--none--seed0.parquet").write_bytes(b"")
    assert "scores/ascent--none--seed0.parquet, which was changed" in _refused("report", str(place))

    class Listening(Silent):
        def noted(self, event: Noted) -> None:
            said.append(event.text)

    scenario = reopened(RunDirectory(place))
    simulate(scenario, prepare(scenario), place, SerialGrid(1), Observers([Listening()]))
    check_finished(RunFiles.open(place))
    assert [line for line in said if "run again" in line] == [
        "ascent--none--seed0 is run again: arms/ascent--none--seed0.json does not belong to "
        "scores/ascent--none--seed0.parquet, which was changed"
    ]
    events = [json.loads(line) for line in (place / "ledger.jsonl").read_text().splitlines()]
    assert [entry["arm"] for entry in events if entry["event"] == "restarted"] == ["ascent--none--seed0"]


@pytest.mark.parametrize("name", ["events.jsonl", "ledger.jsonl", "results.json", "transcripts", "checkpoints"])
def test_nothing_is_written_through_a_link_to_the_outside(finished: Path, tmp_path: Path, name: str) -> None:
    place, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(finished, place)
    if (place / name).exists():
        (place / name).rename(outside)
    else:
        outside.mkdir()
    (place / name).symlink_to(outside)
    with pytest.raises(RunFilesError, match=f"{name} is no"):
        check_places(RunDirectory(place))
