"""Clients that the scenario names: what is refused, and where the names are found again."""

import json
from pathlib import Path
from typing import Any

import pytest

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.scenario.load import ScenarioError, load_scenario, scenario_from_dict

THREE = {"source": "digits", "clients": 3, "client_names": ["North", "South", "Sea Side"]}


def scenario(**changes: Any) -> Any:
    """Three named clients, of which one leaves and one has two records deleted."""
    requests = [
        {"client": "Sea Side", "round": 1, "level": "record", "records": [0, 1]},
        {"client": "South", "round": 2},
    ]
    about: dict[str, Any] = {
        "name": "named",
        "data": THREE,
        "training": {"rounds": 2, "clients_per_round": 0},
        "deletion": {"level": "client", "pattern": "sequential", "request": requests},
        "unlearning": [{"method": "ascent"}],
        "attack": [{"kind": "average"}],
        "runtime": {"backend": "serial"},
    }
    return scenario_from_dict({**about, **changes})


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a", "b"], r"client_names holds 2 names, and there are clients = 3"),
        (["a", "b", "a"], r"'a' is there 2 times; each client needs a name of its own"),
        (["a", "b", ""], r"'' is no name of a client: 1 to 24 printable characters"),
        (["a", "b", " c"], r"' c' is no name of a client"),
        (["a", "b", "c\x1b[2J"], r"is no name of a client"),
        (["a", "b", "c" * 25], r"is no name of a client"),
        (["a", "b", 3], r"must be a list of names, one for each client"),
        ("abc", r"must be a list of names, one for each client"),
    ],
)
def test_names_that_cannot_be_shown_are_refused(names: Any, says: str) -> None:
    with pytest.raises(ScenarioError, match=rf"data\.client_names.*{says}|data.*{says}"):
        scenario(data=THREE | {"client_names": names})


def test_natural_clients_have_their_own_names() -> None:
    with pytest.raises(ScenarioError, match=r"client_names with partition.scheme = 'natural'"):
        scenario(data={"source": "digits", "client_names": ["a"], "partition": {"scheme": "natural"}})


def test_a_request_of_a_level_of_its_own_needs_what_that_level_needs() -> None:
    with pytest.raises(ScenarioError, match=r"request\.0\.records is missing; level = 'record' needs client and rec"):
        scenario(deletion={"level": "client", "request": [{"client": 0, "level": "record"}]})
    with pytest.raises(ScenarioError, match=r"'federaser' with deletion.level = 'record'.*it works on client"):
        scenario(unlearning=[{"method": "federaser"}])


def test_names_are_found_again_in_rows_and_in_the_ledger(tmp_path: Path) -> None:
    asked = scenario()
    [arm] = simulate(asked, prepare(asked), tmp_path, SerialGrid(1)).arms
    first = arm.requests[0]
    assert (first.name, first.level, first.records) == ("Sea Side", "record", 2)
    assert arm.requests[1].name == "South"
    table = RunDirectory(tmp_path).arm(arm.arm).requests()
    assert table is not None
    assert table["name"].tolist() == ["Sea Side", "South"]
    entries = [json.loads(line) for line in (tmp_path / "ledger.jsonl").open()]
    assert [entry["names"] for entry in entries if entry["event"] == "requested"] == [["Sea Side"], ["South"]]


def test_a_synthetic_population_is_named_too() -> None:
    data = {"source": "synthetic:mnist-like", "clients": 2, "records_per_client": 20, "client_names": ["A", "B"]}
    asked = scenario(data=data, deletion={"level": "client", "request": [{"client": "B"}]})
    ground = prepare(asked)[0]
    assert ground.population.schema.site_names == ("A", "B")
    assert list(ground.requests[0].forget) == [1]


def test_the_shipped_hospitals_are_five_and_one_comes_back() -> None:
    shipped = load_scenario("hospitals")
    ground = prepare(shipped)[0]
    assert len(ground.population.schema.site_names) == ground.population.clients == 5
    assert [request.level for request in ground.requests].count("client") == 4
    assert [request.size for request in ground.requests if request.level == "record"] == [20]
    assert sum(request.rejoin is not None for request in ground.requests) == 1
