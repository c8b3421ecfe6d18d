"""What arms are forecast to cost: each method says it of itself."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from palimpsest.simulator.planning.cost_table import CostTable, Line
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
    [puf] = [line for line in said.lines if line.name.startswith("puf")]
    assert puf.cells == ("unknown",) * 4
    assert said.total[-1] == "unknown   puf cannot say beforehand what it costs"


def test_the_total_adds_up_what_is_known_and_says_what_memory_it_takes() -> None:
    content = {
        "name": "x",
        "data": {"source": "digits", "clients": 6},
        "model": {"kind": "softmax"},
        "training": {"rounds": 3, "clients_per_round": 3},
        "deletion": {"requests": 2},
        "unlearning": [{"method": "ascent"}, {"method": "none"}],
    }
    scenario = scenario_from_dict(content)
    total, memory = table(plan(scenario), scenario).total
    # A model has 2,600 bytes; four releases of the trunk and one of each branch, in both arms.
    assert total == "total     2 arms: < 1 s of training, 31.2 kB of transcripts"
    assert re.fullmatch(r"memory    about [\d.]+ GB, all processes together", memory)
    partly = scenario_from_dict(content | {"unlearning": [{"method": "rollback"}]})
    assert "1 arm: at least < 1 s" in table(plan(partly), partly).total[0]


def test_it_says_what_a_history_of_client_updates_takes_and_what_compression_is() -> None:
    content: Section = {
        "name": "x",
        "data": {"source": "digits", "clients": 6},
        "model": {"kind": "softmax"},
        "training": {"rounds": 3, "clients_per_round": 3},
        "deletion": {"requests": 2, "level": "client"},
        "unlearning": [{"method": "federaser"}],
    }
    plain = scenario_from_dict(content)
    [said] = [line for line in table(plan(plain), plain).total if line.startswith("history")]
    assert said.startswith("history   23.4 kB of client updates")  # 3 rounds of 3 clients' 2,600 bytes
    assert "runtime.compress_updates = true took 29 to 59 % off" in said  # what docs/scale.md measured
    assert "takes 29 to 59 % off" in (Path(__file__).parents[2] / "docs/scale.md").read_text()
    small = scenario_from_dict(content | {"runtime": {"compress_updates": True}})
    [said] = [line for line in table(plan(small), small).total if line.startswith("history")]
    assert "before compression" in said


@pytest.mark.parametrize("width", [60, 80, 120])
def test_an_arm_s_id_is_never_broken(width: int) -> None:
    names = [f"softmax--retrain-same-order--dp-sgd-0.5--seed{seed}" for seed in (0, 11)] + ["a--b"]
    found = CostTable(("rounds", "client updates"), [Line(name, ("1", "23,456")) for name in names], ["total of all"])
    console = Console(file=io.StringIO(), width=width)
    console.print(found)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(any(line.startswith(name) for line in lines) for name in names)
    assert max(map(len, lines)) <= width
    assert sum("23,456" in line for line in lines) == 3
    assert lines[-1] == "total of all"
