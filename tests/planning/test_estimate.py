"""What arms are forecast to cost: each method says it of itself."""

from pathlib import Path
from typing import Any

import pytest

from palimpsest.simulator.planning.estimate import UNKNOWN, Cost, of_arm, table
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.planning.requests import draw_requests
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.world.data.build import load_population

Section = dict[str, Any]
MLP: Section = {"model": {"kind": "mlp"}}
BETWEEN: Section = {"deletion": {"requests": 2, "rounds_between": 1, "level": "client"}}
RECORDS: Section = {"deletion": {"requests": 3, "level": "record", "records_per_request": 2}}
FEDSGD: Section = {"training": {"algorithm": "fedsgd", "rounds": 3}}
LBFGS: Section = {"training": {"algorithm": "lbfgs"}}
CLOSED: Section = {"training": {"algorithm": "closed-form"}, "model": {"kind": "ridge"}}
SHARDS: Section = {"training": {"rounds": 3, "shards": 2}}

COSTS: list[tuple[Section, Section, Cost]] = [
    ({"method": "retrain"}, {}, Cost(6, 18, 31200)),
    ({"method": "retrain"}, BETWEEN, Cost(8, 24, 36400)),
    ({"method": "retrain"}, FEDSGD, Cost(6, 36, 31200)),
    ({"method": "retrain"}, LBFGS, Cost(2, None, 15600)),
    ({"method": "retrain"}, CLOSED, Cost(2, 12, 15600)),
    ({"method": "finetune"}, {}, Cost(10, 30, 36400)),
    ({"method": "finetune", "rounds": 2}, BETWEEN, Cost(4, 12, 20800)),
    ({"method": "not"}, MLP, Cost(10, 30, 307840)),
    ({"method": "not", "rounds": 0}, MLP, Cost(0, 0, 115440)),
    ({"method": "ascent"}, {}, Cost(0, 2, 15600)),
    ({"method": "ascent", "steps": 4}, RECORDS, Cost(0, 12, 18200)),
    ({"method": "ascent"}, CLOSED, Cost(0, 2, 15600)),
    ({"method": "downdate"}, CLOSED | RECORDS, Cost(0, 3, 20800)),
    ({"method": "fedrecovery"}, {}, Cost(0, 0, 15600)),
    ({"method": "distil"}, {}, Cost(0, 0, 20800)),
    ({"method": "none"}, {}, Cost(0, 0, 15600)),
    ({"method": "none"}, LBFGS, Cost(0, 0, 15600)),
    ({"method": "rollback"}, {}, UNKNOWN),
    ({"method": "sharded"}, SHARDS, UNKNOWN),
    ({"method": "federaser"}, {}, UNKNOWN),
    ({"method": "puf"}, {}, UNKNOWN),
    ({"method": "pga"}, {}, UNKNOWN),
    ({"method": "fedosd"}, {}, UNKNOWN),
]
"""Method, what its scenario differs in, and the forecast: rounds, client updates, bytes of the transcript."""


def forecast(unlearning: Section, sections: Section, place: Path) -> Cost:
    """Of the only arm of a scenario with one method: six clients, three of them a round."""
    base: Section = {
        "name": "x",
        "data": {"source": "digits", "clients": 6},
        "training": {"rounds": 3, "clients_per_round": 3},
        "deletion": {"requests": 2, "level": "client"},
        "unlearning": [unlearning],
    }
    scenario = scenario_from_dict(base | sections)
    [prefix] = plan(scenario).prefixes
    population = load_population(prefix.setting.data, prefix.seed, place)
    training = prefix.setting.training
    rounds = training.rounds if training.algorithm in ("fedavg", "fedsgd") else 1
    [arm] = prefix.arms
    return of_arm(arm, population, draw_requests(prefix.setting.deletion, population, rounds, prefix.seed))


@pytest.mark.parametrize(("unlearning", "sections", "cost"), COSTS)
def test_a_built_in_method_forecasts_its_cost(
    tmp_path: Path, unlearning: Section, sections: Section, cost: Cost
) -> None:
    assert forecast(unlearning, sections, tmp_path) == cost


def test_a_method_that_forecasts_nothing_is_unknown_in_plain_words() -> None:
    content = {
        "name": "x",
        "data": {"source": "digits", "clients": 6},
        "deletion": {"requests": 1, "level": "client"},
        "unlearning": [{"method": "puf"}, {"method": "none"}],
    }
    scenario = scenario_from_dict(content)
    said = table(plan(scenario), scenario)
    rows = list(zip(*(column.cells for column in said.columns), strict=True))
    [puf] = [row for row in rows if str(row[0]).startswith("puf")]
    assert puf[1:] == ("unknown",) * 4
    assert said.caption == "unknown: puf cannot say beforehand what it costs"
