"""Released models in MLflow: one registered model a scenario, a version an arm, an alias for each.

A version's files are code (``served_model``) and safetensors: ``mlflow.pyfunc.load_model`` runs no stranger's pickle.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.tracking.templates import ABOUT, FILES, architecture, template, write
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.specs import ModelSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion


class Models:
    """The models of one run directory in one store; what is there already is neither logged nor registered again.

    Args:
        client: of the store.
        experiment: its id.
        identity: of the run directory.
        name: of the registered model.
    """

    def __init__(self, client: "MlflowClient", experiment: str, identity: str, name: str) -> None:
        self._client, self._experiment, self._identity, self._name = client, experiment, identity, name
        self._folder = tempfile.TemporaryDirectory(prefix="palimpsest-model-")
        self._templates: dict[str, Path] = {}
        self._logged = self._find_logged()
        self._versions, self._highest = self._find_versions()

    def add(self, run: "Run", arm: ArmResult, spec: ModelSpec, weights: Params) -> None:
        """Log and register an arm's model, unless both are done; the alias is the arm's id (see ``alias_of``)."""
        from mlflow.entities import LoggedModelOutput

        run_id = run.info.run_id
        logged = self._logged.get(arm.arm)
        digest = arm.transcript_digest
        if logged is None or logged.status != "READY" or logged.tags.get("transcript.digest") != digest:
            if logged is not None:
                self._client.delete_logged_model(logged.model_id)
            logged = self._logged[arm.arm] = self._log(run_id, arm, spec, weights)
        if logged.model_id not in {output.model_id for output in (run.outputs.model_outputs if run.outputs else ())}:
            self._client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        found = self._versions.get((arm.arm, logged.model_id))
        if found is None:
            found = self._versions[arm.arm, logged.model_id] = self._register(run_id, arm, logged)
        alias = alias_of(arm.arm)
        if int(found.version) > self._highest.get(alias, 0):
            self._client.set_registered_model_alias(self._name, alias, found.version)
            self._highest[alias] = int(found.version)

    def close(self) -> None:
        """Remove what was prepared on disk."""
        self._folder.cleanup()

    def _find_logged(self) -> "dict[str, LoggedModel]":
        """This run directory's models by arm; what an upload that was cut short left half done is among them."""
        found: dict[str, LoggedModel] = {}
        token = None
        while True:
            page = self._client.search_logged_models(
                [self._experiment], f"tags.`palimpsest.run` = '{self._identity}'", page_token=token
            )
            for model in page:
                arm = model.tags["palimpsest.arm"]
                spare: LoggedModel | None = model
                if arm not in found or found[arm].status != "READY":
                    found[arm], spare = model, found.get(arm)
                if spare is not None:  # one of the two is left from an upload that was cut short
                    self._client.delete_logged_model(spare.model_id)
            token = page.token
            if not token:
                return found

    def _find_versions(self) -> "tuple[dict[tuple[str, str], ModelVersion], dict[str, int]]":
        """This run directory's versions by arm and model, and the version that each alias names by now."""
        wanted = f"name = '{self._name}' and tags.`palimpsest.run` = '{self._identity}'"
        found: dict[tuple[str, str], ModelVersion] = {}
        token = None
        while True:
            page = self._client.search_model_versions(wanted, max_results=1000, page_token=token)
            for one in page:
                found[one.tags["palimpsest.arm"], str(one.source).rpartition("/")[2]] = one
            token = page.token
            if not token:
                break
        with _already_there():
            self._client.create_registered_model(self._name, description=_about(self._name))
        return found, {alias: int(v) for alias, v in self._client.get_registered_model(self._name).aliases.items()}

    def _log(self, run_id: str, arm: ArmResult, spec: ModelSpec, weights: Params) -> "LoggedModel":
        tags = {"palimpsest.run": self._identity, "palimpsest.arm": arm.arm, "transcript.digest": arm.transcript_digest}
        params = {"kind": spec.kind, "task": spec.task, "outputs": str(spec.outputs)}
        logged = self._client.create_logged_model(
            self._experiment, alias_of(arm.arm), run_id, tags, params, "federated model"
        )
        folder = self._written(spec, weights, run_id, str(logged.model_id))
        self._client.log_model_artifacts(logged.model_id, str(folder))
        shutil.rmtree(folder)
        return self._client.finalize_logged_model(logged.model_id, "READY")

    def _register(self, run_id: str, arm: ArmResult, logged: "LoggedModel") -> "ModelVersion":
        tags = {"palimpsest.run": self._identity, "palimpsest.arm": arm.arm}
        source, model = f"models:/{logged.model_id}", logged.model_id
        return self._client.create_model_version(
            self._name, source, run_id, tags, description=arm.verdict, await_creation_for=0, model_id=model
        )

    def _written(self, spec: ModelSpec, weights: Params, run_id: str, model_id: str) -> Path:
        """A model's files in a folder: those of its kind, with its own weights and ids."""
        kind = architecture(spec)
        if kind not in self._templates:
            self._templates[kind] = template(spec, weights)
        kept = self._templates[kind]
        folder = Path(self._folder.name) / model_id
        shutil.copytree(kept / FILES, folder)
        (folder / "artifacts").mkdir()
        write(folder / "artifacts", spec, weights)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        ids = {"model_id": model_id, "run_id": run_id, "model_uuid": model_id, "utc_time_created": now}
        described = {**json.loads((kept / ABOUT).read_text()), **ids}
        (folder / "MLmodel").write_text(json.dumps(described, indent=1))  # which is YAML
        return folder


def alias_of(arm: str) -> str:
    """An arm's id as an alias: letters, digits, ``-`` and ``_`` alone; ``0.5`` is ``0_5``, ``+`` is ``_and_``."""
    return re.sub(r"[^\w-]", "_", arm.replace("+", "_and_"))


def _about(name: str) -> str:
    return (
        f"The models that the scenario {name} released after unlearning, a version an arm. "
        f"Load one by its arm: `mlflow.pyfunc.load_model('models:/{name}@<arm>')`; dots of an arm's id are `_` there."
    )


@contextmanager
def _already_there() -> Iterator[None]:
    """What exists need not be created."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
