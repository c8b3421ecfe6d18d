"""Two of the blows of ``kills``, and all of them where ``PALIMPSEST_SOAK=1``."""

import os

import pytest

from tests.soak.kills import BLOWS, COUNT, STAGES, Case, drawn, faults


@pytest.mark.mlflow
@pytest.mark.slow
def test_a_run_that_is_struck_says_what_to_do_leaves_nothing_and_resumes() -> None:
    assert faults(Case("serial", "run", "training", "SIGTERM twice", 0.1)) == []


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_so_does_one_on_ray() -> None:
    assert faults(Case("ray", "run", "training", "SIGTERM", 0.1), resumed=False) == []


@pytest.mark.skipif(os.environ.get("PALIMPSEST_SOAK") != "1", reason="takes hours; PALIMPSEST_SOAK=1 runs it")
@pytest.mark.parametrize("case", drawn(COUNT), ids=str)
def test_every_blow(case: Case) -> None:
    assert faults(case) == []


def test_the_blows_that_are_drawn_are_of_all_kinds() -> None:
    cases = drawn(COUNT)
    assert {case.blow for case in cases} == set(BLOWS)
    assert {case.stage for case in cases} == set(STAGES)
    assert {(case.backend, case.command) for case in cases} == {
        (backend, command) for backend in ("serial", "ray") for command in ("run", "resume")
    }
