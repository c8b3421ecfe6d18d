"""What is deleted: as many as asked for, never twice, and never chosen by what it contains."""

from dataclasses import replace

import numpy as np
import pytest

from palimpsest.simulator.planning.requests import draw_requests
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.scenario.sections import DeletionConfig
from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.specs import Schema

SIZES = (3, 0, 5, 1, 8, 2, 4)


def population(sizes: tuple[int, ...] = SIZES, classes: int = 3, regression: bool = False) -> Population:
    """Clients of given sizes with random content; classes 0 to ``classes - 1`` in turn."""
    n, rng = sum(sizes), np.random.default_rng(5)
    schema = Schema(
        name="made",
        task="regression" if regression else "classification",
        shape=(2,),
        outputs=1 if regression else classes,
    )
    nothing = np.zeros((0, 2), np.float32)
    return Population(
        schema=schema,
        train_x=rng.standard_normal((n, 2)).astype(np.float32),
        train_y=rng.standard_normal(n).astype(np.float32) if regression else np.arange(n) % classes,
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        public_x=nothing,
        public_y=np.zeros(0),
        test_x=nothing,
        test_y=np.zeros(0),
        box_low=np.zeros(2),
        box_high=np.ones(2),
        preprocessing={},
    )


def pairs(requests: tuple) -> list[tuple[int, int]]:
    """(client, record) of everything deleted."""
    return [(c, r) for request in requests for c, records in request.forget.items() for r in records]


def test_single_records_are_distinct_exist_and_are_spread_over_clients() -> None:
    requests = draw_requests(DeletionConfig(requests=6), population(), rounds=9, seed=0)
    assert [request.index for request in requests] == list(range(6))
    assert all((request.round, request.level, request.label) == (9, "record", None) for request in requests)
    assert {client for client, _ in pairs(requests)} == {0, 2, 3, 4, 5, 6}  # everybody who has records, once
    assert all(record < SIZES[client] for client, record in pairs(requests))


def test_every_record_can_be_deleted_once_and_no_more() -> None:
    requests = draw_requests(DeletionConfig(requests=sum(SIZES)), population(), 1, 0)
    assert len(set(pairs(requests))) == sum(SIZES)
    with pytest.raises(ScenarioError, match=r"deletion\.requests = 24.*after 23 requests.*ask for fewer"):
        draw_requests(DeletionConfig(requests=sum(SIZES) + 1), population(), 1, 0)


def test_several_records_of_one_client() -> None:
    requests = draw_requests(DeletionConfig(requests=4, records_per_request=3), population(), 1, 0)
    assert all(len(request.forget) == 1 and request.size == 3 for request in requests)
    assert all(list(records) == sorted(records) for request in requests for records in request.forget.values())
    assert len(set(pairs(requests))) == 12


def test_simultaneous_requests_are_of_distinct_clients() -> None:
    asked = DeletionConfig(pattern="simultaneous", group=3, requests=2, records_per_request=2)
    requests = draw_requests(asked, population(), 1, 0)
    assert all(len(request.forget) == 3 and request.size == 6 for request in requests)
    assert all(list(request.forget) == sorted(request.forget) for request in requests)
    assert len(set(pairs(requests))) == 12


def test_whole_clients() -> None:
    requests = draw_requests(DeletionConfig(level="client", requests=6), population(), 1, 0)
    forgotten = {client: records for request in requests for client, records in request.forget.items()}
    assert forgotten == {client: tuple(range(size)) for client, size in enumerate(SIZES) if size}
    groups = DeletionConfig(level="client", pattern="simultaneous", group=2, requests=3)
    assert {len(request.forget) for request in draw_requests(groups, population(), 1, 0)} == {2}
    with pytest.raises(ScenarioError, match="needs 7 clients, and 6 have records; ask for at most 6"):
        draw_requests(DeletionConfig(level="client", requests=7), population(), 1, 0)


def test_whole_classes() -> None:
    data = population()
    requests = draw_requests(DeletionConfig(level="label", requests=3), data, 1, 0)
    assert {request.label for request in requests} == {0, 1, 2}
    for request in requests:
        rows = np.concatenate([data.rows(client, records) for client, records in request.forget.items()])
        assert sorted(rows) == np.flatnonzero(data.train_y == request.label).tolist()
    with pytest.raises(ScenarioError, match=r"deletion\.requests = 4.*3 classes; ask for at most 3"):
        draw_requests(DeletionConfig(level="label", requests=4), data, 1, 0)


def test_a_class_of_one_client() -> None:
    data = population()
    for request in draw_requests(DeletionConfig(level="label", scope="client", requests=3), data, 1, 0):
        [(client, records)] = request.forget.items()
        of_client = data.train_y[data.rows(client)]
        assert records == tuple(np.flatnonzero(of_client == request.label))


def test_regression_has_no_classes() -> None:
    with pytest.raises(ScenarioError, match="regression and has no classes; take record or client"):
        draw_requests(DeletionConfig(level="label", requests=1), population(regression=True), 1, 0)


@pytest.mark.parametrize("level", ["record", "client"])
def test_contents_never_decide_what_is_deleted(level: str) -> None:
    data = population()
    other = replace(data, train_x=data.train_x[::-1] * 7, train_y=(data.train_y + 1) % 3)
    asked = DeletionConfig(level=level, requests=5)
    assert draw_requests(asked, data, 3, 1) == draw_requests(asked, other, 3, 1)
    assert draw_requests(asked, data, 3, 1) != draw_requests(asked, data, 3, 2)


def test_requests_spelled_out_are_taken_as_they_are() -> None:
    asked = DeletionConfig.model_validate(
        {"request": [{"round": 2, "client": 4, "records": [7, 0]}, {"client": 4, "records": [7]}]}
    )
    first, second = draw_requests(asked, population(), rounds=9, seed=0)
    assert (first.round, first.forget) == (2, {4: (0, 7)})
    assert (second.round, second.forget) == (9, {4: (7,)})  # asked for twice: the ledger's to refuse


@pytest.mark.parametrize(
    "asked, needed",
    [
        ({"request": [{"client": 7, "records": [0]}]}, r"deletion\.request\.0\.client = 7.*0 to 6"),
        ({"request": [{"client": 2, "records": [4, 5]}]}, r"deletion\.request\.0\.records holds 5.*5 records.*0 to 4"),
        ({"level": "label", "request": [{"label": 3}]}, r"deletion\.request\.0\.label = 3.*classes 0 to 2"),
        (
            {"level": "label", "scope": "client", "request": [{"label": 0, "client": 1}]},
            r"deletion\.request\.0\.label = 0: client 1 has no record",
        ),
    ],
)
def test_requests_for_what_is_not_there_are_refused(asked: dict, needed: str) -> None:
    with pytest.raises(ScenarioError, match=needed):
        draw_requests(DeletionConfig.model_validate(asked), population(), 1, 0)


def test_a_share_of_a_class_goes_and_a_larger_share_contains_it() -> None:
    people = population()

    def drawn(fraction: float) -> list[set[tuple[int, int]]]:
        config = DeletionConfig(level="label", requests=3, fraction=fraction)
        return [
            {(client, record) for client, records in one.forget.items() for record in records}
            for one in draw_requests(config, people, 5, 0)
        ]

    for tenth, half, whole in zip(drawn(0.1), drawn(0.5), drawn(1.0), strict=True):
        assert tenth < half < whole
        assert (len(tenth), len(half)) == (max(1, round(0.1 * len(whole))), round(0.5 * len(whole)))
    with pytest.raises(ValueError, match="is for drawn requests of level = 'label'"):
        DeletionConfig(level="record", fraction=0.5)


def test_a_challenge_needs_records_that_were_held_out() -> None:
    content = {"name": "t", "data": {"test_fraction": 0.0}, "attack": [{"kind": "candidate-match"}]}
    with pytest.raises(ScenarioError, match="taken from the test data; give test_fraction above 0"):
        scenario_from_dict(content)
