"""``python -m palimpsest.simulator.tracking DIRECTORY URI``: follow a run into MLflow, see ``live``."""

import gc
import sys
from pathlib import Path

import palimpsest.simulator.world.garbage  # before what takes long to load
import palimpsest.simulator.world.telemetry  # noqa: F401  # before MLflow
from palimpsest.simulator.tracking.follow import follow

if __name__ == "__main__":
    follow(Path(sys.argv[1]), sys.argv[2], sys.stdin.buffer, sys.stdout)
    gc.freeze()  # as the command does: no look for garbage among all that was loaded
