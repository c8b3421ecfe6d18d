"""Five runs in one process; fifty that are tracked, and as many on Ray, where ``PALIMPSEST_SOAK=1``."""

import os

import pytest

from tests.soak.repeated import COUNT, growth, held_after

LONG = os.environ.get("PALIMPSEST_SOAK") == "1"


def test_nothing_grows_with_the_runs_of_a_process() -> None:
    assert growth(held_after(5, tracked=False)) == []


@pytest.mark.mlflow
@pytest.mark.skipif(not LONG, reason="takes half an hour; PALIMPSEST_SOAK=1 runs it")
def test_nor_with_runs_that_are_drawn_and_tracked() -> None:
    assert growth(held_after(COUNT)) == []


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.skipif(not LONG, reason="takes half an hour; PALIMPSEST_SOAK=1 runs it")
def test_nor_with_runs_on_ray() -> None:
    assert growth(held_after(COUNT, "ray")) == []
