"""The pace of local training is tried out in a second or so, however long a client's training is."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.simulator.planning.pace import ENOUGH, Trial, extrapolated, seconds_per_update, steps_of
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.world.data.build import load_population
from palimpsest.simulator.world.models.batches import drawn
from palimpsest.simulator.world.specs import Recipe


def _pace(place: Path, clock: Any = time.thread_time, **training: Any) -> float | None:
    content = {
        "name": "x",
        "data": {"source": "digits", "clients": 6},
        "model": {"kind": "softmax"},
        "training": {"rounds": 1, **training},
        "deletion": {"requests": 1},
        "unlearning": [{"method": "ascent"}],
    }
    [prefix] = plan(scenario_from_dict(content)).prefixes
    return seconds_per_update(prefix, load_population(prefix.setting.data, prefix.entropy, place), clock)


def test_a_training_of_hours_is_tried_out_in_seconds_and_scaled_up_by_its_steps(tmp_path: Path) -> None:
    short = _pace(tmp_path, local_epochs=20)  # tried out whole
    began = time.thread_time()
    long = _pace(tmp_path, local_epochs=20_000)
    assert time.thread_time() - began < ENOUGH + 4.0
    assert short is not None and long is not None
    assert 300.0 < long / short < 3000.0


def test_a_slow_clock_ends_the_trials_after_some_more_steps(tmp_path: Path) -> None:
    readings = iter(range(0, 1000, 2))
    assert _pace(tmp_path, lambda: float(next(readings)), local_steps=50) is not None
    assert next(readings) == 20  # ten readings: a warm-up, and trials of 1, 2, 8 and 32 steps, of 2 s each


def test_what_an_update_takes_once_is_not_taken_for_each_step(tmp_path: Path) -> None:
    """However slow the machine: here two clients take 2 s, whatever the number of steps."""
    readings = iter(range(0, 1000, 2))
    pace = _pace(tmp_path, lambda: float(next(readings)), local_steps=50)
    assert pace == pytest.approx(1.0 / (os.cpu_count() or 1))


def test_a_second_step_is_not_tried_out_where_no_client_takes_it(tmp_path: Path) -> None:
    readings = iter(range(0, 1000, 2))
    pace = _pace(tmp_path, lambda: float(next(readings)), local_steps=1)
    assert next(readings) == 8 and pace == pytest.approx(1.0 / (os.cpu_count() or 1))


def test_nothing_is_tried_out_where_no_client_steps(tmp_path: Path) -> None:
    assert _pace(tmp_path, algorithm="lbfgs") is None


@pytest.mark.parametrize("recipe", [Recipe(local_epochs=3, batch_size=8), Recipe(local_steps=5, batch_size=8)])
def test_steps_are_those_that_a_client_takes(recipe: Recipe) -> None:
    sizes = np.array([1, 8, 9, 40])
    taken = [len(drawn(int(size), (), recipe, np.random.default_rng(0), compact=False)) for size in sizes]
    assert steps_of(sizes, recipe).tolist() == taken


def test_seconds_grow_with_steps_but_for_what_an_update_takes_once() -> None:
    assert extrapolated([Trial(2, 1, 4.0)], wanted=1.0) == 2.0
    assert extrapolated([Trial(2, 1, 4.0), Trial(2, 2, 5.0)], wanted=10.0) == 6.5  # 3 s both together, 1 s a step
    grown = [Trial(2, 1, 3.0), Trial(8, 1, 4.0), Trial(8, 4, 7.0)]
    assert extrapolated(grown, wanted=10.0) == (7.0 + 6.0) / 8  # 3 s an update, 1 s a step
    whole = [*grown, Trial(8, 0, 16.0), Trial(8, 0, 15.0)]
    assert extrapolated(whole, wanted=10.0) == 15.0 / 8
