"""An arm's released model, as ``mlflow.pyfunc.load_model`` loads it: this file runs there; weights are safetensors.

MLflow copies this file beside the weights. It needs this package, and no pickle.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray
from safetensors.numpy import load_file

from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.specs import ModelSpec


class ReleasedModel(PythonModel):
    """Answers with the model's outputs: a score for each class, or the value for regression."""

    def load_context(self, context: Any) -> None:
        """Read the model's description and its weights."""
        self._spec = ModelSpec.model_validate_json(Path(context.artifacts["spec"]).read_text())
        self._model = model_of(self._spec)
        self._weights = load_file(context.artifacts["weights"])

    def predict(
        self,
        context: Any,
        model_input: np.ndarray,  # without parameters: MLflow warns of any other annotation
        params: dict[str, Any] | None = None,
    ) -> NDArray[Any]:
        """``[n, outputs]`` for ``[n, d]`` records in the model's input units."""
        return self._model.predict(self._weights, np.asarray(model_input, dtype=self._spec.dtype))


mlflow.models.set_model(ReleasedModel())
