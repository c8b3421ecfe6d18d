"""Upload of a run directory to MLflow: what the store does not have yet, while the run goes on or afterwards.

One experiment a scenario, one parent run a run directory, one child run an arm. A run directory carries an identity
(``tracking.json``), by which an upload finds what earlier ones have left. Everything is read from the directory: what
could not be sent waits there.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import palimpsest.simulator.world.telemetry  # noqa: F401  # before MLflow
from palimpsest.simulator.figures.arm import arm_figure
from palimpsest.simulator.results.arm_files import ArmFiles
from palimpsest.simulator.results.event_log import EventLog
from palimpsest.simulator.results.report import attack_table, markdown
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import headline, leading
from palimpsest.simulator.tracking import points
from palimpsest.simulator.tracking.datasets import dataset_inputs
from palimpsest.simulator.tracking.metrics import (
    grouped_metrics,
    headline_metrics,
    is_private,
    success_of,
    undefended_of,
)
from palimpsest.simulator.tracking.models import Models
from palimpsest.simulator.tracking.page import experiment_tags
from palimpsest.simulator.tracking.points import Point
from palimpsest.simulator.tracking.remote import PARENT, Remote
from palimpsest.simulator.tracking.store import experiment_of
from palimpsest.simulator.tracking.tables import arm_tables, run_table, write_tables

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CONTENT, _FIGURES = "palimpsest.content", "palimpsest.figures"
"""Tags, set last: of what a run's figures, and its pictures, were when all of them had been sent."""


class Upload:
    """One run directory, connected to one store. Any error of the store is raised; then connect anew.

    Args:
        directory: of the run, finished or not.
        client: of the store.
        store: its address.
    """

    def __init__(self, directory: RunDirectory, client: "MlflowClient", store: str) -> None:
        self._directory, self._client = directory, client
        self._plan = directory.plan()
        self._name = str(directory.scenario()["name"])
        experiment = experiment_of(self._name)
        self._remote = Remote(client, store, experiment, directory.tracked.identity(), experiment_tags(self._name))
        self._log = EventLog(directory.events, beginning=True)
        self._waiting: dict[str, list[Point]] = {}
        self._done: set[str] = set()
        self._read: dict[str, ArmResult] = {}
        self._whole_run: dict[str, ArmResult] | None = None

    @property
    def run_id(self) -> str:
        """Of the parent."""
        return self._remote.runs[PARENT].id

    @property
    def experiment(self) -> str:
        """Id of the experiment."""
        return self._remote.experiment

    def begin(self) -> None:
        """Create the parent and its children, RUNNING; MLflow lists the newest on top, so arms begin last first."""
        began, arms = self._began(), self._arms
        source = {"mlflow.source.name": f"palimpsest run {self._name}", "mlflow.source.type": "LOCAL"}
        source |= {tag: str(self._plan[key]) for tag, key in _SOURCE.items() if self._plan.get(key)}
        self._remote.create(PARENT, self._directory.path.name, source, began)
        for place, arm in enumerate(arms):
            self._remote.create(arm, arm, source, began + len(arms) - place)
        for arm in (PARENT, *arms):
            if not arm or not self._is_sent(arm):  # pictures of the whole run may be drawn after all else is there
                self._remote.know(arm)
        if not self._is_sent(PARENT):
            self._remote.log(PARENT, params=_flat(self._directory.scenario()))
        for entry in self._plan.get("arms", ()):
            if not self._is_sent(entry["arm"]):
                self._remote.log(entry["arm"], params=entry["params"] | {"run": self._directory.path.name})
                self._remote.log_inputs(entry["arm"], dataset_inputs(entry["data"]))

    def go_on(self) -> None:
        """Send what is new since the last time: rounds, requests, what the machine does, arms that are done."""
        # Before the log is read, which then has all events of these arms: they are sent whole, or not yet.
        done = [arm for arm in self._arms if arm not in self._done and self._result(arm) is not None]
        for arm in (PARENT, *self._arms):
            if not self._directory.is_finished and not (arm and self._result(arm)):
                self._remote.set_status(arm, "RUNNING")
        for written, event in self._log.timed():
            for arm in points.arms_of(event, self._trainings):
                self._waiting.setdefault(arm, []).extend(points.of_event(event, int(written * 1000)))
        for arm in [arm for arm in self._waiting if arm in self._remote.runs]:
            if not self._is_sent(arm):
                self._remote.log(arm, self._waiting[arm])
            del self._waiting[arm]
        self._remote.log(PARENT, self._system())
        for arm in done:
            self._arm(arm)
            self._done.add(arm)

    def end(self, how: str) -> None:
        """Send all that is left, and how the run ended: FINISHED, FAILED or KILLED."""
        self.go_on()
        if self._directory.is_finished:
            run = RunFiles.open(self._directory.path)
            for done in run.arms:
                self._pictures(run, done)
            self._whole(run)
            how = "FINISHED"
        for arm in self._arms:
            if self._result(arm) is None:
                self._remote.set_status(arm, how)
        self._remote.set_status(PARENT, how, self._ended())

    def close(self) -> None:
        """Let go of what was prepared on this machine."""
        if "_models" in self.__dict__:
            self._models.close()

    @cached_property
    def _models(self) -> Models:
        return Models(self._client, self._remote.experiment, self._directory.tracked.identity(), self._name)

    @property
    def _arms(self) -> Sequence[str]:
        """Ids of all arms, in order: as planned; of runs that left no plan, those of the results."""
        if self._plan:
            return [str(entry["arm"]) for entry in self._plan["arms"]]
        return list(self._results or ())

    @property
    def _results(self) -> Mapping[str, ArmResult] | None:
        """What was found of each arm, once the run is finished."""
        if self._whole_run is None and self._directory.is_finished:
            self._whole_run = {arm.arm: arm for arm in RunFiles.open(self._directory.path).arms}
        return self._whole_run

    @cached_property
    def _trainings(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for entry in self._plan.get("arms", ()):
            found.setdefault(entry["training"], []).append(entry["arm"])
        return found

    def _files(self, arm: str) -> ArmFiles:
        return self._directory.arm(arm)

    def _result(self, arm: str) -> ArmResult | None:
        """What was found of an arm; None where it is not done."""
        if self._results is not None:
            return self._results.get(arm)
        if arm not in self._read and self._files(arm).is_finished:
            self._read[arm] = self._files(arm).result()
        return self._read.get(arm)

    def _is_sent(self, arm: str) -> bool:
        """Whether all of a run is there, as it is on disk."""
        sent = self._remote.runs[arm]
        return bool(sent.tags.get(_CONTENT)) and sent.tags[_CONTENT] == self._content(arm)

    def _content(self, arm: str) -> str:
        """What changes when a run's figures do (those of the whole run as pictures too); empty where it is not done."""
        if not arm:
            file = self._directory.results_file
            return _digest(_digests([file, *self._drawn()])) if file.is_file() else ""
        result = self._result(arm)
        return _digest(result.to_json()) if result is not None else ""

    def _arm(self, name: str) -> None:
        """Send what is known of an arm that is done, unless the store has it as it is."""
        if self._is_sent(name):
            self._remote.set_status(name, self._status(name))
            return
        files, arm = self._files(name), self._result(name)
        assert arm is not None  # it is done
        sent, time, model = self._remote.runs[name], self._written(name), files.model()
        if model is not None:
            self._models.add(sent.run, arm, *model)
        with tempfile.TemporaryDirectory() as folder:
            tables = write_tables(arm_tables(files, arm), Path(folder))
            drawn = self._directory.arm_figure(name)
            if drawn.is_file() or arm_figure(files, arm, drawn) is not None:
                _copy([drawn], Path(folder) / self._directory.figures.name)
            self._remote.log_folder(name, Path(folder))
        found = points.of_rounds(files.rounds(), time) + points.of_requests(arm.requests, time)
        found += points.of_values(grouped_metrics(arm) | self._headline(arm), time)
        self._remote.log(name, found, {} if self._plan else _old_params(arm), tables | self._tags(arm))
        self._remote.set_status(name, self._status(name), time)
        self._remote.log(name, tags={_CONTENT: self._content(name)})  # last: an upload cut short is done again

    def _status(self, name: str) -> str:
        """How an arm ended that is done."""
        result = self._result(name)
        return "FAILED" if result is not None and result.diverged else "FINISHED"

    def _headline(self, arm: ArmResult) -> dict[str, float]:
        """The headline metrics; ``utility_cost`` waits for the undefended arm to compare with, where it may come."""
        others = [result for name in self._arms if (result := self._result(name)) is not None]
        undefended = undefended_of(arm, others)
        values = headline_metrics(arm, undefended)
        if undefended is None and len(others) < len(self._arms):
            values.pop("utility_cost", None)
        return values

    def _tags(self, arm: ArmResult) -> dict[str, str]:
        led, best = leading(arm), success_of(arm)
        grade = led[1] if led else "not attacked" if best is None else "inferred"
        return {
            "transcript.digest": arm.transcript_digest,
            "verdict": arm.verdict,
            "outcome": "no scores" if arm.diverged else grade,
            "private": "yes" if is_private(arm) else "no",
            "best attack": best.attack if best else "none",
            "success is": best.measure if best else "not attacked",
            "mlflow.note.content": f"{arm.verdict}\n\n{attack_table([arm], [arm])}",
        }

    def _pictures(self, run: RunFiles, arm: ArmResult) -> None:
        """Send an arm the figures that show it, and what its metrics owe to other arms."""
        headline_now = headline_metrics(arm, undefended_of(arm, run.arms))
        self._remote.log(arm.arm, points.of_values(headline_now, self._written(arm.arm)))
        shown = _showing(run, arm)
        content = _digest(_digests(shown))
        if not shown or self._remote.runs[arm.arm].tags.get(_FIGURES) == content:
            return
        with tempfile.TemporaryDirectory() as folder:
            _copy(shown, Path(folder) / run.directory.figures.name)
            self._remote.log_folder(arm.arm, Path(folder))
        self._remote.log(arm.arm, tags={_FIGURES: content})

    def _whole(self, run: RunFiles) -> None:
        """Send what concerns the run as a whole: its figures, its tables, and a metric a headline over the arms."""
        if self._is_sent(PARENT):
            return
        directory, arms, content = self._directory, run.arms, self._content(PARENT)
        headlines = [headline_metrics(arm, undefended_of(arm, arms)) for arm in arms]
        summary = [
            Point(f"arms/{name}", value, self._ended(), step)
            for step, values in enumerate(headlines)
            for name, value in values.items()
        ]
        tags = {f"version.{name}": text for name, text in run.results.versions.items()}
        tags["mlflow.note.content"] = f"**{headline(arms)}.**\n\n{markdown(run.results)}"
        with tempfile.TemporaryDirectory() as folder:
            tags |= write_tables({"arms": run_table(arms, headlines)}, Path(folder))
            for file in (directory.scenario_file, directory.results_file, directory.ledger, directory.added_attacks):
                if file.is_file():
                    shutil.copyfile(file, Path(folder) / file.name)
            _copy(self._drawn(), Path(folder) / directory.figures.name)
            self._remote.log_folder(PARENT, Path(folder))
        self._remote.log(PARENT, summary, tags=tags)
        self._remote.log(PARENT, tags={_CONTENT: content})

    def _drawn(self) -> list[Path]:
        """Pictures of the whole run: drawn after its results are written, so missing where it was killed between."""
        return sorted(self._directory.figures.glob("*.png"))

    def _system(self) -> Iterable[Point]:
        """What the machine was doing, as it was written down."""
        if not self._directory.system_log.is_file():
            return
        for line in self._directory.system_log.read_text().splitlines():
            try:
                entry = json.loads(line)
                time, step = int(entry.pop("time")), int(entry.pop("step"))
            except (ValueError, KeyError):  # cut short by a kill
                continue
            yield from (Point(f"system/{key}", float(value), time, step) for key, value in entry.items())

    def _written(self, arm: str) -> int:
        """Milliseconds: when an arm was done."""
        files = self._files(arm)
        return int(files.finished_at() * 1000) if files.is_finished else self._ended()

    def _began(self) -> int:
        """Milliseconds: when the scenario was written."""
        return int(self._directory.scenario_file.stat().st_mtime * 1000)

    def _ended(self) -> int:
        """Milliseconds: when the results were written; 0 where they are not."""
        file = self._directory.results_file
        return max(self._began(), int(file.stat().st_mtime * 1000)) if file.is_file() else 0


_FEW = 20
_SOURCE = {"mlflow.source.git.commit": "commit", "mlflow.user": "user"}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digests(files: Iterable[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def _showing(run: RunFiles, arm: ArmResult) -> list[Path]:
    """The figures of an arm's variant (of a run without variants, all), where there are few arms: they are large."""
    if len(run.arms) > _FEW:
        return []
    drawn = sorted(run.directory.figures.glob("*.png"))
    return [path for path in drawn if path.stem.endswith(f"-{arm.variant}")] if arm.variant else drawn


def _copy(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)


def _old_params(arm: ArmResult) -> dict[str, str]:
    """Settings of an arm of a run that left no plan."""
    entry = arm.to_json()
    return _flat({key: entry[key] for key in ("variant", "unlearning", "defense", "seed", "data", "deletion")})


def _flat(tree: Any, path: str = "") -> dict[str, str]:
    """Dotted names and texts of the leaves; tables in a list are named by their name, or numbered."""
    if isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        tree = {str(item.get("name", number)) if isinstance(item, Mapping) else str(number): item
                for number, item in enumerate(tree)}  # fmt: skip
    if tree == []:  # as if it were not there: children have a param of that name
        return {}
    if not isinstance(tree, Mapping):
        return {path: tree if isinstance(tree, str) else json.dumps(tree)}
    found: dict[str, str] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{path}.{key}" if path else str(key))
    return found
