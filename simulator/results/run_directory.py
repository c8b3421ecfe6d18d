"""The directory of a run: which file lies where. Only this module and ``arm_files`` know; they write and read them."""

import itertools
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from palimpsest.simulator.results.arm_files import ARM_FOLDERS, ArmFiles
from palimpsest.simulator.results.entry import is_file_name
from palimpsest.simulator.results.provenance import checked_provenance
from palimpsest.simulator.results.reading import RunFilesError, content_of
from palimpsest.simulator.results.schema import ArmResult, RunResults
from palimpsest.simulator.results.seals import scenario_digest
from palimpsest.simulator.results.tracking_notes import TrackingNotes
from palimpsest.simulator.results.verdicts import label_of
from palimpsest.simulator.world.files import write_atomically

_RUNS = Path("runs")
"""Where runs go that the user names no place for."""


@dataclass(frozen=True)
class RunDirectory:
    """Where a run leaves what.

    Attributes:
        path: of the directory, which need not exist.
    """

    path: Path

    @property
    def results_file(self) -> Path:
        """Every figure; written last, so that its presence means that all arms are done."""
        return self.path / "results.json"

    @property
    def scenario_file(self) -> Path:
        """The resolved scenario; its presence means that a run was begun here."""
        return self.path / "scenario.toml"

    @property
    def provenance_file(self) -> Path:
        """What bits depend on beside the scenario."""
        return self.path / "provenance.json"

    @property
    def ledger(self) -> Path:
        """The erasure ledger of all arms."""
        return self.path / "ledger.jsonl"

    @property
    def events(self) -> Path:
        """The log of rounds, requests, trainings and arms, as they were done."""
        return self.path / "events.jsonl"

    @property
    def plan_file(self) -> Path:
        """The arms and data in plain values, as they were known before anything started."""
        return self.path / "plan.json"

    @property
    def system_log(self) -> Path:
        """The log of what the machine was doing meanwhile."""
        return self.path / "system.jsonl"

    @property
    def comparison(self) -> Path:
        """The table that compares ways of unlearning."""
        return self.path / "comparison.md"

    @property
    def figures(self) -> Path:
        """Directory of the figures."""
        return self.path / "figures"

    @property
    def run_lock(self) -> Path:
        """File that is locked by the process that runs or resumes here: one at a time."""
        return self.path / ".run"

    @property
    def hosts_lock(self) -> Path:
        """File that hosts lock while they write here by themselves."""
        return self.path / ".hosts"

    @property
    def scratch(self) -> Path:
        """Directory of what trainings keep on disk until their arms are done."""
        return self.path / "checkpoints"

    def figure(self, name: str, variant: str = "") -> Path:
        """File of a figure of one variant, or of the whole run."""
        return self.figures / (f"{name}-{variant}.png" if variant else f"{name}.png")

    def arm_figure(self, arm: str) -> Path:
        """File of the figure of one arm alone."""
        return self.figures / "arms" / f"{arm}.png"

    def arm(self, arm: str) -> ArmFiles:
        """The files of the arm with this id.

        Raises:
            RunFilesError: it would lead to files outside the run, as an id that a stranger wrote may.
        """
        if not is_file_name(arm):
            raise RunFilesError(f"{self.path} names an arm {arm[:80]!r}, as no file of a run can be called")
        return ArmFiles(self.path, arm)

    def write_scenario(self, text: str) -> None:
        """Write the resolved scenario, as TOML."""
        write_atomically(self.scenario_file, text)

    def scenario(self) -> dict[str, Any]:
        """The resolved scenario.

        Raises:
            RunFilesError: there is none, or it is broken.
        """
        if not self.scenario_file.is_file():
            raise RunFilesError(f"{self.path} holds no run: it has no {self.scenario_file.name}")
        try:
            return tomllib.loads(self.scenario_file.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunFilesError(f"{self.scenario_file} is broken ({error}): restore it, or run it anew") from None

    def write_provenance(self, about: Mapping[str, Any]) -> None:
        """Write what bits depend on beside the scenario."""
        write_atomically(self.provenance_file, json.dumps(about, indent=1))

    def provenance(self) -> dict[str, Any] | None:
        """What bits depend on beside the scenario; None where the directory does not say.

        Raises:
            RunFilesError: it is broken.
        """
        if not os.path.lexists(self.provenance_file):
            return None
        return checked_provenance(self.provenance_file)

    def begun_with(self) -> str:
        """Digest of the scenario that the run was begun with, see ``seals.scenario_digest``; empty: it is not known."""
        return str((self.provenance() or {}).get("scenario", ""))

    def check_scenario(self) -> None:
        """Refuse a scenario that was changed since the run was begun.

        Raises:
            RunFilesError: it was changed, or is broken.
        """
        begun = self.begun_with()
        if begun and begun != scenario_digest(self.scenario()):
            raise RunFilesError(
                f"{self.scenario_file} was changed since the run was begun, and what is here belongs to the scenario "
                f"as it was: restore it, or run the changed one anew: palimpsest run {self.scenario_file} --out NEW"
            )

    @property
    def handed_out(self) -> Path:
        """Which arm and which of its deletions a transcript that was handed out is of, by its name; not handed out."""
        return self.path / "handed-out.json"

    @property
    def added_attacks(self) -> Path:
        """A line for each attack that was added after the run, with its hyper-parameters."""
        return self.path / "added-attacks.jsonl"

    def note_attack(self, about: Mapping[str, Any]) -> None:
        """Write down an attack that was added after the run."""
        with self.added_attacks.open("a") as file:
            file.write(json.dumps(about) + "\n")

    def write_results(self, results: RunResults) -> None:
        """Write ``results.json``; this finishes the run."""
        write_atomically(self.results_file, results.to_text())

    def write_plan(self, about: Mapping[str, Any]) -> None:
        """Write down the arms and data in plain values, see ``planning.outline``."""
        write_atomically(self.plan_file, json.dumps(about, indent=1))

    def plan(self) -> dict[str, Any]:
        """The arms and data in plain values; empty where the run left none.

        Raises:
            RunFilesError: they are broken.
        """
        return content_of(self.plan_file) if os.path.lexists(self.plan_file) else {}

    @property
    def is_finished(self) -> bool:
        """Whether all arms are done: the results are written last."""
        return self.results_file.is_file()

    @property
    def tracking_lock(self) -> Path:
        """File that is locked by who uploads this run: one at a time."""
        return self.path / ".tracking"

    @property
    def tracked(self) -> TrackingNotes:
        """What is kept of the run's tracking."""
        return TrackingNotes(self.path / "tracking.json", lambda: str((self.provenance() or {}).get("run", "")))

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder that a run makes here, but for figures."""
        return tuple(self.path / name for name in (*ARM_FOLDERS, "checkpoints"))

    @property
    def regular_files(self) -> tuple[Path, ...]:
        """Every file that a run reads or adds to, but for its scenario, its provenance and its arms' files."""
        logs = (self.ledger, self.events, self.system_log, self.added_attacks, self.handed_out)
        return (
            *logs,
            self.plan_file,
            self.results_file,
            self.comparison,
            self.run_lock,
            self.hosts_lock,
            self.tracking_lock,
            self.tracked.path,
        )


def unused_directory(scenario: str) -> Path:
    """``runs/<scenario>-<time>``, or with -2, -3, ... behind it where another run has taken that second."""
    name = _RUNS / f"{scenario}-{datetime.now():%Y%m%d-%H%M%S}"
    names = (name if count == 1 else Path(f"{name}-{count}") for count in itertools.count(1))
    return next(name for name in names if not name.exists())


def newest_run() -> Path | None:
    """The run under ``runs/`` that finished last; None where none did."""
    finished = [place for place in map(RunDirectory, _RUNS.glob("*")) if place.results_file.is_file()]
    return max(finished, key=lambda place: place.results_file.stat().st_mtime).path if finished else None


@dataclass(frozen=True)
class SettingOfArms:
    """Arms of one variant that differ by their seed only.

    Attributes:
        label: how the data were unlearned and defended, in a few words.
        arms: in the order of ``results.json``; figures of single records show the first.
    """

    variant: str
    label: str
    arms: tuple[ArmResult, ...]


@dataclass(frozen=True)
class RunFiles:
    """A finished run, read for tables, figures and tracking; of its files nothing is kept but the results.

    Attributes:
        directory: of the run.
        results: content of ``results.json``.
    """

    directory: RunDirectory
    results: RunResults

    @classmethod
    def open(cls, path: Path) -> "RunFiles":
        """Read the results of the run in a directory.

        Raises:
            RunFilesError: there are none, they are broken, or have a schema that this version does not read.
        """
        directory = RunDirectory(path)
        return cls(directory, RunResults.read(directory.results_file))

    @property
    def arms(self) -> tuple[ArmResult, ...]:
        """The arms, in the order of ``results.json``."""
        return self.results.arms

    @property
    def scored(self) -> "RunFiles":
        """The same run without the arms that have no scores: for who shows scores."""
        kept = tuple(arm for arm in self.arms if not arm.diverged)
        return self if len(kept) == len(self.arms) else replace(self, results=self.results.with_arms(kept))

    def variants(self) -> list[str]:
        """Names of the variants, in order; one empty name where the scenario has none."""
        return list(dict.fromkeys(arm.variant for arm in self.arms))

    def settings(self, variant: str) -> list[SettingOfArms]:
        """The arms of one variant, seeds together."""
        groups: dict[str, list[ArmResult]] = {}
        for arm in self.arms:
            if arm.variant == variant:
                groups.setdefault(label_of(arm, self.arms), []).append(arm)
        return [SettingOfArms(variant, label, tuple(arms)) for label, arms in groups.items()]

    def files(self, arm: ArmResult) -> ArmFiles:
        """What an arm left beside its results."""
        return self.directory.arm(arm.arm)

    def scores(self, *arms: ArmResult) -> pd.DataFrame:
        """A row for each target and attack that answered with records; empty where none of these arms had one."""
        frames = [frame for arm in arms if (frame := self.files(arm).scores()) is not None]
        columns = ["attack", "case", "target", "cosine", "cosine_centred"]
        if not frames:
            return pd.DataFrame(columns=columns)
        rows = pd.concat(frames, ignore_index=True)
        return rows[rows["cosine"].notna()] if "cosine" in rows else pd.DataFrame(columns=columns)
