"""Fixtures of the whole suite."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import palimpsest.simulator.world.telemetry  # noqa: F401 - telemetry is off before anything that has some is imported
