"""Noise on the statistics of ridge and noise on its releases add up."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palimpsest.attacks.solved_noise import SolvedNoise, solved_noise
from palimpsest.simulator.testing.transcripts import digits, optimum
from palimpsest.simulator.world.models.model import linear_params
from palimpsest.simulator.world.records import Case

DATA = digits(private=60, public=200)
SPEC = DATA.spec("ridge", 5.0)
STATISTICS = {"kind": "dp-statistics", "noise_multiplier": 0.1, "clip": 1.0}


def _noise(*defense: dict[str, Any]) -> SolvedNoise:
    before, after = (optimum(SPEC, DATA.x[gone:], DATA.y[gone:]) for gone in (0, 1))
    known = DATA.knowledge(SPEC)
    known = replace(known, facts=known.facts.model_copy(update={"defense": defense}))
    return solved_noise(Case(0, 1, linear_params(before), linear_params(after)), known)


def test_noise_on_the_releases_does_not_hide_that_on_the_statistics() -> None:
    """By draws: A^-1, lambda as it grew, takes the statistics' noise to the parameters; that of releases is added."""
    sigma = 1e-4
    alone = _noise(STATISTICS)
    both = _noise(STATISTICS, {"kind": "obfuscation", "sigma": sigma})
    rng = np.random.default_rng(0)
    drawn = both.seen(alone.deviation * rng.standard_normal((4000, len(alone.observed))))
    drawn += np.sqrt(2.0) * sigma * rng.standard_normal(drawn.shape)
    assert np.broadcast_to(both.deviation, both.observed.shape) == pytest.approx(drawn.std(axis=0), rel=0.07)
    # What was observed is the same, but for A, which holds the growth of lambda in both.
    assert both.seen(alone.observed[None])[0] == pytest.approx(both.observed)
