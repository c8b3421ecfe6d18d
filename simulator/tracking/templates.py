"""What MLflow keeps of a model beside its weights: the same files for all models of one architecture.

MLflow needs seconds to write them, as it loads the model, has it answer, and looks at all installed packages. So they
are written once for the libraries that are installed, and kept where other things are that can be computed again.
"""

import hashlib
import json
import secrets
import shutil
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from palimpsest.simulator.world.files import cache_directory
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.specs import ModelSpec

FILES, ABOUT = "files", "MLmodel.json"
"""In a template: the folder of the files without weights, and the content of ``MLmodel``."""

_REQUIREMENTS = ("palimpsest", "torch", "safetensors", "numpy")
_SPEC, _WEIGHTS = "spec.json", "weights.safetensors"
_NUMBERS = {"regularisation", "row_clip", "target_clip"}
"""What specs of one architecture may differ in."""
_CODE = Path(__file__).with_name("served_model.py")


def architecture(spec: ModelSpec) -> str:
    """What models have in common whose files differ in nothing but weights and numbers."""
    return spec.model_dump_json(exclude=_NUMBERS)


def template(spec: ModelSpec, weights: Params) -> Path:
    """Folder with the files of a model's architecture, written unless these libraries have written it before.

    Args:
        spec: of the model.
        weights: that MLflow loads to see whether the model answers; they are not kept.
    """
    libraries = [sys.version, *(f"{name} {version(name)}" for name in ("mlflow", *_REQUIREMENTS))]
    content = json.dumps([architecture(spec), libraries, _CODE.read_text()])
    kept = cache_directory() / "mlflow-models" / hashlib.sha256(content.encode()).hexdigest()[:32]
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.parent / f".draft-{secrets.token_hex(8)}"
        try:
            draft.mkdir()  # not by ``mkdtemp``: whoever shares the cache must be able to read it
            _make(spec, weights, draft)
            with suppress(OSError):  # another process was faster
                draft.replace(kept)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return kept


def write(folder: Path, spec: ModelSpec, weights: Params) -> None:
    """Write what tells one model from others of its architecture."""
    (folder / _SPEC).write_text(spec.model_dump_json())
    save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, folder / _WEIGHTS)


def _make(spec: ModelSpec, weights: Params, place: Path) -> None:
    """MLflow writes the files, loads the model and has it answer its input example."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    dtype, width, folder = np.dtype(spec.dtype), int(np.prod(spec.shape)), place / FILES
    with tempfile.TemporaryDirectory() as own:
        write(Path(own), spec, weights)
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(_CODE),
            artifacts={"spec": str(Path(own) / _SPEC), "weights": str(Path(own) / _WEIGHTS)},
            signature=ModelSignature(
                Schema([TensorSpec(dtype, (-1, width))]), Schema([TensorSpec(dtype, (-1, spec.outputs))])
            ),
            input_example=np.zeros((1, width), dtype),
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _REQUIREMENTS],
        )
    about = Model.load(str(folder)).to_dict()
    flavor = about["flavors"]["python_function"]
    flavor["model_code_path"] = "served_model.py"  # beside it, and not where this package lies on this machine
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    shutil.rmtree(folder / "artifacts")
    (place / ABOUT).write_text(json.dumps(about))
