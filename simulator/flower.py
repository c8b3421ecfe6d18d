"""What Flower loads, by the name that it has in the bundle of ``flwr run``: the two apps.

A bundle holds ``simulator/``, ``server/`` and the others side by side. Where the project itself is not installed (a
SuperLink that installs its dependencies alone), they are made importable as ``palimpsest.*`` from there.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

if find_spec("palimpsest") is None:
    _bundle = ModuleType("palimpsest")
    _bundle.__path__ = [str(Path(__file__).resolve().parents[1])]
    sys.modules["palimpsest"] = _bundle

from palimpsest.simulator.federation.client_app import client_app
from palimpsest.simulator.server_app import server_app

__all__ = ["client_app", "server_app"]
