"""One run directory's runs in a tracking store, as they are there: a parent, and a child for each arm.

All that is sent goes through here, and what the store has already is not sent again. What it has is read once, when it
is connected to; who gets an error connects anew, and so learns what arrived.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.simulator.tracking.points import SERIES, Point
from palimpsest.simulator.tracking.store import artifacts_beside

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

RUN, ARM = "palimpsest.run", "palimpsest.arm"
"""Tags: which run directory, and which of its arms (none for the parent)."""
PARENT = ""
_LONGEST = {"param": 6000, "tag": 8000}
_BATCH = (800, 100, 100)
"""Metrics, params and tags that MLflow takes at once: 1,000 together."""


@dataclass
class Sent:
    """One run, and what the store is known to have of it.

    Attributes:
        run: as it was when it was read or created.
        status: RUNNING, FINISHED, FAILED or KILLED.
        tags: by name.
        params: by name.
        points: value by metric and step.
    """

    run: "Run"
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    points: dict[tuple[str, int], float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Of the run."""
        return str(self.run.info.run_id)


class Remote:
    """The runs of one run directory in a store.

    Args:
        client: of the store.
        store: its address.
        experiment: the experiment's name.
        identity: of the run directory.
        about: tags of a new experiment.
    """

    def __init__(
        self, client: "MlflowClient", store: str, experiment: str, identity: str, about: Mapping[str, str]
    ) -> None:
        self.client, self._identity = client, identity
        self.experiment = _experiment(client, store, experiment, about)
        self.runs: dict[str, Sent] = {}
        for run in self._stored():
            arm = run.data.tags.get(ARM, PARENT)
            if arm in self.runs:  # two uploads created it at once: the older one stays
                client.delete_run(run.info.run_id)
            else:
                last = {(key, 0): value for key, value in run.data.metrics.items() if not key.startswith(SERIES)}
                self.runs[arm] = Sent(run, run.info.status, dict(run.data.tags), dict(run.data.params), last)

    def create(self, arm: str, name: str, tags: Mapping[str, str], began: int) -> Sent:
        """The run of an arm (or the parent), created where the store has none."""
        if arm not in self.runs:
            tags = {RUN: self._identity, **({ARM: arm} if arm else {}), **tags}
            if arm:
                tags = {**tags, "mlflow.parentRunId": self.runs[PARENT].id}
            run = self.client.create_run(self.experiment, began, dict(tags), name)
            self.runs[arm] = Sent(run, "RUNNING", dict(tags), {})
        return self.runs[arm]

    def know(self, arm: str) -> None:
        """Read which points of its series a run has; of other metrics the last is known from the start."""
        sent = self.runs[arm]
        for key in sent.run.data.metrics:
            if key.startswith(SERIES):
                sent.points |= {(key, p.step): p.value for p in self.client.get_metric_history(sent.id, key)}

    def log(
        self,
        arm: str,
        points: Iterable[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Send what the store does not have: in one request where it fits into one."""
        from mlflow.entities import Metric, Param, RunTag

        sent = self.runs[arm]
        new = {(p.key, p.step): p for p in points if not _same(sent.points.get((p.key, p.step)), p.value)}
        metrics = [Metric(p.key, p.value, p.time, p.step) for p in new.values()]
        texts = {key: value[: _LONGEST["param"]] for key, value in (params or {}).items() if key not in sent.params}
        labels = {key: value[: _LONGEST["tag"]] for key, value in (tags or {}).items()}
        labels = {key: value for key, value in labels.items() if sent.tags.get(key) != value}
        everything: tuple[Sequence[Any], ...] = (
            metrics,
            [Param(key, value) for key, value in texts.items()],
            [RunTag(key, value) for key, value in labels.items()],
        )
        for number in range(max(-(-len(some) // most) for some, most in zip(everything, _BATCH, strict=True))):
            some = [each[number * most :][:most] for each, most in zip(everything, _BATCH, strict=True)]
            self.client.log_batch(sent.id, some[0], some[1], some[2])
        sent.points |= {key: point.value for key, point in new.items()}
        sent.params |= texts
        sent.tags |= labels

    def log_inputs(self, arm: str, inputs: Sequence["DatasetInput"]) -> None:
        """Send the data sets that a run has not."""
        run = self.runs[arm].run
        known = {(i.dataset.name, i.dataset.digest) for i in (run.inputs.dataset_inputs if run.inputs else ())}
        new = [one for one in inputs if (one.dataset.name, one.dataset.digest) not in known]
        if new:
            self.client.log_inputs(self.runs[arm].id, new)

    def log_folder(self, arm: str, folder: Path) -> None:
        """Send the files of a folder; a file of the same name is replaced."""
        if any(folder.iterdir()):
            self.client.log_artifacts(self.runs[arm].id, str(folder))

    def set_status(self, arm: str, status: str, ended: int = 0) -> None:
        """Say how a run ended, and when (in milliseconds; 0: now), or that it goes on."""
        sent = self.runs[arm]
        if sent.status == status:
            return
        if status == "RUNNING":
            self.client.update_run(sent.id, status)
        else:
            self.client.set_terminated(sent.id, status, ended or int(time.time() * 1000))
        sent.status = status

    def _stored(self) -> "Iterator[Run]":
        """Runs of this directory that the store has already, the oldest first."""
        token = None
        wanted = f"tags.`{RUN}` = '{self._identity}'"
        while True:
            page = self.client.search_runs(
                [self.experiment], wanted, max_results=500, order_by=["attributes.start_time ASC"], page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return


def _experiment(client: "MlflowClient", store: str, name: str, about: Mapping[str, str]) -> str:
    """Id of an experiment; its artifacts lie beside a SQLite store, or where the server puts them."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifacts_beside(store, name), dict(about)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # somebody else was faster
    assert found is not None
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for key, value in about.items():
        if found.tags.get(key) != value:
            client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id)


def _same(known: float | None, value: float) -> bool:
    """Whether a value is there already; NaN is what it was."""
    return known is not None and (known == value or (known != known and value != value))
