"""What a run was made with: digests hold for one CPU type and one set of libraries."""

import getpass
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from palimpsest.simulator.results.reading import RunFilesError, content_of, fault

LIBRARIES = ("palimpsest", "flwr", "ray", "torch", "numpy", "scipy", "opacus", "mlflow")
ANEW = "restore it from a copy, or run the scenario anew: palimpsest run .../scenario.toml --out NEW"
"""What helps where what a run was made with is lost."""


def versions() -> dict[str, str]:
    """Name -> version of Python and of what decides about bits."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def machine() -> dict[str, str | int]:
    """CPU type and number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": named[0] if named else platform.processor() or platform.machine(), "cores": os.cpu_count() or 1}


def user() -> str | None:
    """Name of who runs this; None where the machine does not say."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None


def git_commit() -> str | None:
    """Commit of the checkout that this code runs from; None where it runs from no checkout."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


class _Secret(BaseModel):
    """A salted digest, see ``scenario.secret``."""

    salt: Annotated[str, Field(pattern="^([0-9a-f]{2})+$")]
    digest: Annotated[str, Field(pattern="^[0-9a-f]+$")]


class _Provenance(BaseModel):
    """What ``provenance.json`` may say; older runs say less."""

    versions: dict[str, str] = {}
    machine: dict[str, str | int] = {}
    sources: dict[str, Any] = {}
    models: dict[str, str] = {}
    secret: _Secret | None = None
    device: str = "cpu"
    scenario: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    run: Annotated[str, Field(pattern="^([0-9a-f]{32})?$")] = ""


def checked_provenance(path: Path) -> dict[str, Any]:
    """The content of ``provenance.json``.

    Raises:
        RunFilesError: it is broken.
    """
    try:
        content = content_of(path)
        _Provenance.model_validate(content, strict=True)
    except RunFilesError as error:
        raise RunFilesError(f"{error}, so that it is not known what the run was made with: {ANEW}") from None
    except ValidationError as error:
        raise RunFilesError(f"{path} is broken ({fault(error)}): {ANEW}") from None
    return content
