"""Whole runs of what is special about a deletion: shards, clients that come back, promises and what they hold for."""

import json
from pathlib import Path
from typing import Any

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.scenario.load import scenario_from_dict

BASE: dict[str, Any] = {
    "name": "small",
    "data": {"source": "digits", "clients": 8, "test_fraction": 0.2, "public_fraction": 0.4},
    "attack": [{"kind": "average"}],
    "runtime": {"backend": "serial"},
}


def _run(directory: Path, **changes: Any) -> dict[str, dict[str, Any]]:
    """Arm's id -> its entry of ``results.json``."""
    scenario = scenario_from_dict(BASE | changes)
    results = simulate(scenario, prepare(scenario), directory, SerialGrid(1))
    return {arm["arm"]: arm for arm in results["arms"]}


def test_shards_from_a_scenario_to_its_results(tmp_path: Path) -> None:
    arms = _run(
        tmp_path,
        training={"rounds": 3, "clients_per_round": 4, "shards": 2, "local_steps": 3},
        deletion={"requests": 3},
        adversary={"sees": "broadcasts"},
        unlearning=[
            {"method": "sharded"},
            {"method": "retrain", "coupling": ["same-order", "independent"]},
            {"method": "none"},
        ],
    )
    promised = {name: entry["forgetting"] for name, entry in arms.items()}
    adaptively = {name: about.get("exact_for_adaptive_requests") for name, about in promised.items()}
    assert adaptively == {
        "sharded--none--seed0": False,
        "retrain-same-order--none--seed0": False,
        "retrain-independent--none--seed0": True,
        "none--none--seed0": None,
    }
    assert [about["exact"] for about in promised.values()] == [True, True, True, False]
    assert arms["sharded--none--seed0"]["cost"]["server_bytes_stored"] >= 2 * 4 * 650 * 8
    ends = {}
    for name in ("sharded--none--seed0", "retrain-same-order--none--seed0"):
        lines = [json.loads(line) for line in (tmp_path / "transcripts" / name / "releases.jsonl").open()]
        assert {line["phase"] for line in lines} == {"training", "unlearning", "working"}
        ends[name] = [line["sha256"] for line in lines if line["branch"] == 1][-1]
    assert len(set(ends.values())) == 1


def test_a_client_comes_back_in_the_middle_of_a_run(tmp_path: Path) -> None:
    arms = _run(
        tmp_path,
        training={"rounds": 6, "clients_per_round": 0},
        deletion={
            "level": "client",
            "pattern": "sequential",
            "request": [
                {"client": 3, "round": 2, "rejoin": 4},
                {"client": 5, "round": 3},
                {"client": 3, "round": 5},
                {"client": 5, "round": 6},
            ],
        },
        unlearning=[{"method": "retrain", "coupling": "same-order"}, {"method": "rollback"}],
    )
    assert [(arm["requests_made"], arm["requests_completed"]) for arm in arms.values()] == [(4, 3)] * 2
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").open()]
    for arm in arms:
        told = [(line["event"], line["request"]) for line in lines if line["arm"] == arm]
        served = [[("requested", i), ("accepted", i), ("completed", i)] for i in range(3)]
        assert told == [*served[0], *served[1], ("rejoined", 0), *served[2], ("requested", 3), ("refused", 3)]
    # Both are exact and in one order, so that they tell the hidden retrainings apart by the same distance.
    one, other = (arm["forgetting"]["distance_to_retrained"] for arm in arms.values())
    assert one == other > 0.0
