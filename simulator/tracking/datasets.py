"""A training's data as MLflow's datasets: name, digest, source and counts, and none of the records."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_CONTEXT = {"clients": "training", "public": "public knowledge", "test": "testing"}


def dataset_inputs(parts: Sequence[Mapping[str, Any]]) -> list["DatasetInput"]:
    """The clients', the public and the test part, as ``plan.json`` has them (see ``planning.outline``)."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for part in parts:
        source = CodeDatasetSource({"mlflow.source.name": "palimpsest", "data.source": str(part["source"])})
        counts = {name: part[name] for name in ("records", "clients", "shape", "classes") if name in part}
        profile = json.dumps({"num_rows": part["records"], **counts})
        entity = Dataset(part["name"], part["digest"], "code", source.to_json(), profile=profile)
        inputs.append(DatasetInput(entity, [InputTag("mlflow.data.context", _CONTEXT[part["part"]])]))
    return inputs
