"""What a run was made with: digests hold for one CPU type and one set of libraries."""

import getpass
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("palimpsest", "flwr", "ray", "torch", "numpy", "scipy", "opacus", "mlflow")


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
