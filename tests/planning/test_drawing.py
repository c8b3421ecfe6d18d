"""How deletions are drawn: what is said of it agrees with the first request of many seeds."""

import numpy as np
import pytest

from palimpsest.simulator.planning.drawing import strata_of
from palimpsest.simulator.planning.requests import draw_requests
from palimpsest.simulator.scenario.sections import DeletionConfig
from tests.planning.test_requests import SIZES, population

SEEDS = 400


def _frequencies(deletion: DeletionConfig) -> list[float]:
    """How often each client that has records is the one of the first request."""
    first = [next(iter(draw_requests(deletion, population(), 9, seed)[0].forget)) for seed in range(SEEDS)]
    return [first.count(client) / SEEDS for client, size in enumerate(SIZES) if size]


@pytest.mark.parametrize(
    "deletion",
    [
        DeletionConfig(requests=2),
        DeletionConfig(requests=2, records_per_request=3),
        DeletionConfig(requests=2, level="client"),
    ],
)
def test_clients_are_drawn_whatever_their_sizes(deletion: DeletionConfig) -> None:
    strata = strata_of(deletion, population(), alike=False)
    assert strata is not None
    assert strata[:, 0] == pytest.approx([size / sum(SIZES) for size in SIZES if size])
    assert strata[:, 1] == pytest.approx(_frequencies(deletion), abs=0.1)


def test_classes_are_drawn_whatever_their_sizes_and_clients_alike_need_no_weights() -> None:
    labelled = strata_of(DeletionConfig(level="label", requests=2), population((5, 2)), alike=True)
    assert labelled == pytest.approx(np.array([[3 / 7, 1 / 3], [2 / 7, 1 / 3], [2 / 7, 1 / 3]]))
    of_clients = strata_of(DeletionConfig(level="label", requests=2, scope="client"), population((5, 2)), alike=True)
    assert of_clients is not None
    assert of_clients.sum(axis=0) == pytest.approx([1.0, 1.0])
    assert strata_of(DeletionConfig(requests=2), population(), alike=True) == pytest.approx(np.ones((1, 2)))


def test_nothing_is_known_of_deletions_that_a_scenario_spells_out() -> None:
    spelled_out = DeletionConfig.model_validate({"request": [{"client": 2, "records": [1]}]})
    assert strata_of(spelled_out, population(), alike=True) is None
