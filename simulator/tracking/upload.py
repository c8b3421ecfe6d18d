"""Upload of a finished run directory to MLflow: the only file that imports it.

One experiment a scenario, one parent run a run directory, one child run an arm. A run directory carries an identity
(``tracking.json``), so that a second upload finds the first one and adds nothing twice.
"""

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import palimpsest.simulator.world.telemetry  # noqa: F401  # before MLflow
from palimpsest.simulator.results.provenance import git_commit
from palimpsest.simulator.results.report import attack_table, markdown
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import headline, leading, verdict
from palimpsest.simulator.tracking.flatten import flattened, numbers
from palimpsest.simulator.tracking.store import artifacts_beside, environment, make_room, store_file, store_of
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.specs import ModelSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_LONGEST = {"param": 6000, "tag": 8000}
_BATCH = {"params": 100, "metrics": 1000}
_PROBING = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""A server that does not answer must not hold up a run: it can be uploaded later."""
_UPLOADING = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Tracked:
    """What became of an upload.

    Attributes:
        ok: whether everything is there.
        message: where to look at it, or why it failed and how to upload later.
        uri: of the store.
        run_id: of the parent run; empty where it failed.
    """

    ok: bool
    message: str
    uri: str
    run_id: str = ""


def track(directory: Path, uri: str = "") -> Tracked:
    """Upload a finished run directory, or what is missing of it. A store that fails is reported, not raised.

    Args:
        directory: of a finished run.
        uri: of the tracking store; empty for a local SQLite store in the working directory.

    Raises:
        RunFilesError: the directory holds no finished run.
    """
    run = RunFiles.open(directory)
    store = store_of(uri)
    with _hushed():
        import requests
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            make_room(store)
            client = MlflowClient(store)
            with environment(_PROBING):
                client.search_experiments(max_results=1)
            with environment(_UPLOADING), _as_tracking_store(store):
                parent = _Upload(run, client, store).all()
        except (MlflowException, SQLAlchemyError, requests.RequestException, OSError) as error:
            return Tracked(False, _failed(store, directory, error), store)
    where = "look at it with: palimpsest ui" if store.startswith("sqlite:") else parent.info.artifact_uri
    if store.startswith("http"):
        where = f"{store.rstrip('/')}/#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}"
    return Tracked(True, f"tracked in {store}; {where}", store, parent.info.run_id)


def prepare(uri: str = "") -> None:
    """Import what tracking needs, and create a SQLite store that is not there yet: both take seconds.

    A store appears whole or not at all. What fails here fails again in ``track``, and is reported there.

    Args:
        uri: of the tracking store; empty for a local SQLite store in the working directory.
    """
    import mlflow.pytorch
    import torch.export._trace  # noqa: F401  # what torch.export puts off until something is exported
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    store = store_of(uri)
    file = store_file(store)
    if file is None or file.exists():
        return
    draft = file.with_name(f".{file.name}.{os.getpid()}.draft")
    with _hushed(), suppress(MlflowException, SQLAlchemyError, OSError):
        make_room(store)
        try:
            mlflow.MlflowClient(f"sqlite:///{draft}").search_experiments(max_results=1)
            os.link(draft, file)  # fails where somebody else was faster
        finally:
            draft.unlink(missing_ok=True)


class _Upload:
    """One upload of one run directory."""

    def __init__(self, run: RunFiles, client: "MlflowClient", store: str) -> None:
        self._run = run
        self._client = client
        self._store = store
        self._identity = run.directory.identity()
        self._name = run.results.scenario

    def all(self) -> "Run":
        """Upload the parent, then the arms; the parent counts as finished when all of them are there."""
        experiment = self._experiment()
        known = {str(run.data.tags.get("palimpsest.arm", "")): run for run in self._uploaded(experiment)}
        parent = known.get("") or self._create(experiment, self._run.directory.path.name, {})
        self._describe(parent.info.run_id)
        for place, arm in enumerate(self._run.arms):
            self._arm(experiment, parent.info.run_id, arm, known.get(arm.arm), place)
        self._client.set_terminated(parent.info.run_id, "FINISHED", self._ended())
        return parent

    def _experiment(self) -> str:
        """Id of the scenario's experiment; its artifacts lie beside a SQLite store, or where the server puts them."""
        found = self._client.get_experiment_by_name(self._name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        about = (
            f"Federated unlearning under an eavesdropper: scenario **{self._name}**.\n\nA parent run is one "
            "`palimpsest run`; its children are the arms (variant x unlearning x defense x seed). Sort them by "
            "`attacks/hrec/cosine_centred_median`: 0 is what the public mean scores, 1 the deleted record itself."
        )
        tags = {"mlflow.note.content": about, "mlflow.experimentKind": "custom_model_development"}
        return self._client.create_experiment(self._name, artifacts_beside(self._store, self._name), tags)

    def _uploaded(self, experiment: str) -> Iterator["Run"]:
        """Runs of this directory that the store has already."""
        token = None
        while True:
            page = self._client.search_runs(
                [experiment], f"tags.`palimpsest.run` = '{self._identity}'", max_results=500, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _create(self, experiment: str, name: str, tags: Mapping[str, str], parent: str = "", place: int = 0) -> "Run":
        """Create a run; arms begin a millisecond apart, last first, as MLflow lists the newest on top."""
        tags = {"palimpsest.run": self._identity, "mlflow.source.name": "palimpsest", **tags}
        if parent:
            tags["mlflow.parentRunId"] = parent
        began = self._began() + (len(self._run.arms) - place if parent else 0)
        return self._client.create_run(experiment, began, tags, name)

    def _describe(self, parent: str) -> None:
        """Everything that concerns the run as a whole."""
        results = self._run.results
        tags = {f"version.{name}": version for name, version in results.versions.items()}
        commit = git_commit()
        if commit is not None:
            tags["mlflow.source.git.commit"] = commit
        tags["mlflow.note.content"] = f"**{headline(self._run.arms)}.**\n\n{markdown(results)}"
        metrics = {"arms": float(len(self._run.arms))}
        self._log(parent, flattened(self._run.directory.scenario()), metrics, tags)
        directory = self._run.directory
        files = (directory.scenario_file, directory.results_file, directory.ledger, directory.added_attacks)
        for file in files:
            if file.is_file():
                self._client.log_artifact(parent, str(file))
        if directory.figures.is_dir():
            self._client.log_artifacts(parent, str(directory.figures), "figures")

    def _arm(self, experiment: str, parent: str, arm: ArmResult, known: "Run | None", place: int) -> None:
        """Upload one arm, unless the store has it as it is."""
        entry = arm.to_json()
        content = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
        if known is not None and known.data.tags.get("palimpsest.content") == content:
            return
        run = known or self._create(experiment, arm.arm, {"palimpsest.arm": arm.arm}, parent, place)
        run_id = run.info.run_id
        params = {key: entry[key] for key in ("variant", "unlearning", "defense", "seed", "data", "deletion")}
        led = leading(arm)
        tags = {
            "transcript.digest": arm.transcript_digest,
            "verdict": verdict(arm),
            "outcome": led[1] if led else "not attacked",
            "mlflow.note.content": f"{verdict(arm)}\n\n{attack_table([arm], self._run.arms)}",
        }
        model = self._run.files(arm).model()
        if model is not None:
            params["model"] = model[0].model_dump(exclude={"shape"})
            if not _uploaded_whole(known, arm):
                # before any metric: MLflow would read each one's history, one request a metric
                self._log_model(run_id, f"{self._name}.{arm.arm}", *model)
        self._log(run_id, flattened(params), numbers(entry), tags)
        self._log_rounds(run_id, arm)
        self._client.set_tag(run_id, "palimpsest.content", content)  # last: an upload cut short is done again
        self._client.set_terminated(run_id, "FINISHED", self._ended())

    def _log(
        self, run_id: str, params: Mapping[str, str], metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        """Log in batches as large as MLflow takes. Times are the run's own, so that repeats are no new points."""
        from mlflow.entities import Metric, Param, RunTag

        values = [Metric(key, value, self._ended(), 0) for key, value in metrics.items()]
        texts = [Param(key, value[: _LONGEST["param"]]) for key, value in params.items()]
        labels = [RunTag(key, value[: _LONGEST["tag"]]) for key, value in tags.items()]
        self._client.log_batch(run_id, tags=labels)
        for begin in range(0, len(texts), _BATCH["params"]):
            self._client.log_batch(run_id, params=texts[begin : begin + _BATCH["params"]])
        for begin in range(0, len(values), _BATCH["metrics"]):
            self._client.log_batch(run_id, metrics=values[begin : begin + _BATCH["metrics"]])

    def _log_rounds(self, run_id: str, arm: ArmResult) -> None:
        """The trunk's utility, loss, update norm and epsilon by round."""
        from mlflow.entities import Metric

        points = [
            Metric(key, value, self._ended(), release.round)
            for release in self._run.files(arm).rounds()
            for key in ("utility", "loss", "update_norm", "epsilon")
            if (value := getattr(release, key)) is not None
        ]
        for begin in range(0, len(points), _BATCH["metrics"]):
            self._client.log_batch(run_id, metrics=points[begin : begin + _BATCH["metrics"]])

    def _log_model(self, run_id: str, name: str, spec: ModelSpec, params: Params) -> None:
        """Log an arm's model as an exported program (no pickle in it), and register it."""
        import mlflow
        import mlflow.pytorch
        import torch
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        module = model_of(spec).module(params)
        dtype, width = np.dtype(spec.dtype), int(np.prod(spec.shape))
        signature = ModelSignature(
            Schema([TensorSpec(dtype, (-1, width), "x")]), Schema([TensorSpec(dtype, (-1, spec.outputs))])
        )
        with mlflow.start_run(run_id=run_id, nested=True):
            logged = mlflow.pytorch.log_model(
                module,
                name="model",
                signature=signature,
                input_example=np.zeros((2, width), dtype),
                pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
                serialization_format="pt2",
                validate_serving_input=False,  # it is the signature's; to serve it once takes time
            )
        self._register(name, logged.model_uri, run_id, str(logged.model_id))

    def _register(self, name: str, source: str, run_id: str, model_id: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self._client.create_model_version(name, source, run_id, await_creation_for=0, model_id=model_id)

    def _began(self) -> int:
        """Milliseconds: when the scenario was written."""
        return int(self._run.directory.scenario_file.stat().st_mtime * 1000)

    def _ended(self) -> int:
        """Milliseconds: when the results were written."""
        return max(self._began(), int(self._run.directory.results_file.stat().st_mtime * 1000))


def _uploaded_whole(known: "Run | None", arm: ArmResult) -> bool:
    """Whether the store has had all of this arm: what is new since then is an attack, and not its model."""
    if known is None or not known.data.tags.get("palimpsest.content"):
        return False
    return bool(known.data.tags.get("transcript.digest") == arm.transcript_digest)


def _failed(store: str, directory: Path, error: Exception) -> str:
    """Why, and what to do about it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    unreachable = "Max retries exceeded" in lines[0] or "timed out" in lines[0]
    return (
        f"not tracked: {store} {'does not answer' if unreachable else f'failed ({lines[0][:160]})'}. Nothing is lost: "
        f"everything is in {directory}; upload it later with: palimpsest report {directory} --track"
    )


@contextmanager
def _hushed() -> Iterator[None]:
    """No chatter from MLflow, its migrations and torch.export, for a while."""
    import mlflow  # noqa: F401  # sets its loggers up when it is imported

    loggers = {name: logging.getLogger(name) for name in ("mlflow", "alembic")}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])


@contextmanager
def _as_tracking_store(store: str) -> Iterator[None]:
    """Point MLflow's global functions (its model logging has no others) at the store, and back."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
