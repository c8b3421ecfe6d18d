"""The rows of requests and the server's whole life, from real runs of small scenarios."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from palimpsest.server.arrivals import NOBODY_LEFT
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.world.protocols.events import Noted, Silent

CHAIN: dict[str, Any] = {
    "name": "leaving",
    "data": {"source": "digits", "clients": 3, "test_fraction": 0.2, "public_fraction": 0.4},
    "training": {"rounds": 4, "clients_per_round": 0},
    "deletion": {
        "level": "client",
        "pattern": "sequential",
        "rounds_between": 1,
        "request": [{"client": k, "round": 2 + k} for k in (0, 1, 2)] + [{"client": 1, "round": 4}],
    },
    "unlearning": [{"method": "ascent"}],
    "attack": [{"kind": "average"}, {"kind": "client-profile"}],
    "runtime": {"backend": "serial"},
}


class Listener(Silent):
    """Keeps what was noted."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def noted(self, event: Noted) -> None:
        self.lines.append(event.text)


def run(directory: Path, listener: Listener | None = None, **changes: Any) -> ArmResult:
    """The one arm of the scenario."""
    scenario = scenario_from_dict(CHAIN | changes)
    directory.mkdir(exist_ok=True)
    [arm] = simulate(scenario, prepare(scenario), directory, SerialGrid(1), listener).arms
    return arm


def whole(directory: Path, **changes: Any) -> tuple[ArmResult, ...]:
    """All arms of the scenario."""
    scenario = scenario_from_dict(CHAIN | changes)
    directory.mkdir(exist_ok=True)
    return simulate(scenario, prepare(scenario), directory, SerialGrid(1)).arms


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ArmResult, Listener]:
    """Three clients leave, and one asks again."""
    directory, listener = tmp_path_factory.mktemp("chain"), Listener()
    return directory, run(directory, listener), listener


def test_each_request_has_its_row(chain: tuple[Path, ArmResult, Listener]) -> None:
    _, arm, _ = chain
    first, second, third, again = arm.requests
    assert [(r.number, r.case, r.round, r.name, r.client) for r in (first, second, third)] == [
        (1, 0, 2, "client 0", 0),
        (2, 1, 3, "client 1", 1),
        (3, 2, 4, "client 2", 2),
    ]
    assert (again.accepted, again.case, again.utility_after, again.attacks) == (False, None, None, {})
    assert "already been deleted" in again.reason
    assert first.client_updates == 1  # one client ascends; the rounds between are not the unlearning's
    assert [r.clients_left for r in (first, second, third)] == [2, 1, 0]
    assert first.records_left == arm.data.records - first.records
    profile = first.attacks["client-profile"]
    assert (profile.measure, profile.chance is not None) == ("label histogram", True)
    assert profile.inferred.split()[0].isdigit()


def test_the_utility_of_a_chain_is_that_of_its_ends(chain: tuple[Path, ArmResult, Listener]) -> None:
    _, arm, _ = chain
    assert arm.utility is not None
    assert arm.utility.trained == arm.requests[0].utility_before
    assert arm.utility.unlearned == arm.requests[2].utility_after
    assert arm.utility.retrained == arm.requests[2].utility_retrained


def test_rounds_go_on_to_the_end(chain: tuple[Path, ArmResult, Listener]) -> None:
    directory, arm, _ = chain
    rounds = RunDirectory(directory).arm(arm.arm).rounds()
    told = [(r.phase, r.request) for r in rounds]
    assert told[:3] == [("training", None)] * 3
    assert told[3:5] == [("between", 1), ("unlearning", 1)]
    assert [r.step for r in rounds] == list(range(len(rounds)))
    assert {request for _, request in told} == {None, 1, 2, 3}
    assert all(r.utility is not None for r in rounds)


def test_a_deletion_that_empties_the_federation_is_stated(chain: tuple[Path, ArmResult, Listener]) -> None:
    directory, _, listener = chain
    assert [line for line in listener.lines if NOBODY_LEFT in line] == [
        f"ascent--none--seed0, after request 3 (client 2): {NOBODY_LEFT}"
    ]
    entries: list[Mapping[str, Any]] = [json.loads(line) for line in (directory / "ledger.jsonl").open()]
    warned = [(entry["event"], entry["request"]) for entry in entries if "warning" in entry]
    assert warned == [("completed", 2)]


def test_a_server_that_deletes_nothing_leaves_everything(tmp_path: Path) -> None:
    arm = run(tmp_path, unlearning=[{"method": "none"}])
    assert {row.records_left for row in arm.requests if row.accepted} == {arm.data.records}


def test_alternatives_have_no_cost_of_their_own(tmp_path: Path) -> None:
    deletion = {"level": "client", "requests": 2}
    arm = run(tmp_path, deletion=deletion)
    assert [(row.seconds, row.client_updates) for row in arm.requests] == [(None, None)] * 2
    assert all(row.utility_before == arm.requests[0].utility_before for row in arm.requests)
    assert {r.phase for r in RunDirectory(tmp_path).arm(arm.arm).rounds()} == {"training"}


def test_what_leavers_and_those_who_stay_have_paid(tmp_path: Path) -> None:
    arm = run(tmp_path, unlearning=[{"method": "retrain"}], defense=[{"kind": "central-dp", "noise_multiplier": 4.0}])
    first, second, third = (row for row in arm.requests if row.accepted)
    assert 0.0 < (first.epsilon_leaver or 0.0) < (first.epsilon_retained or 0.0)
    assert (first.epsilon_retained or 0.0) < (second.epsilon_retained or 0.0)
    assert third.epsilon_retained is None
    assert 0.0 < (first.epsilon_retained_before or 0.0) < (first.epsilon_retained or 0.0)
    assert (first.epsilon_retained or 0.0) <= (second.epsilon_retained_before or 0.0)  # a round of training between


def test_a_budget_refuses_in_the_middle_of_a_chain_and_the_chain_goes_on(tmp_path: Path) -> None:
    """The third departure would cost those who stay too much: one sentence says so, and what was done before stays."""
    requests = [{"client": number % 3, "round": 4, "records": [number]} for number in range(4)]
    chain = {"level": "record", "pattern": "sequential", "request": requests}
    defense = [{"kind": "dp-sgd", "noise_multiplier": 2.0}]
    unlearning, cheap = [{"method": "retrain"}], [{"method": "finetune", "rounds": 1}]
    free = run(tmp_path / "free", deletion=chain, unlearning=unlearning, defense=defense)
    paid = [row.epsilon_retained or 0.0 for row in free.requests]
    assert paid == sorted(set(paid))
    budget = (paid[1] + paid[2]) / 2.0
    arms = whole(tmp_path / "bound", deletion=chain, unlearning=cheap + unlearning, defense=defense,
                 privacy={"budget": budget})  # fmt: skip
    before, arm = arms
    assert before.requests_completed == 4
    assert [row.accepted for row in arm.requests] == [True, True, False, False]
    reason = arm.requests[2].reason
    assert f"privacy.budget = {budget:g}" in reason
    assert f"spend epsilon = {paid[2]:.3g} (so far {paid[1]:.3g})" in reason
    assert reason.count(". ") == 0
    assert [row.epsilon_retained for row in arm.requests] == [*paid[:2], None, None]
    assert arm.privacy.epsilon_max == paid[1]
    assert "2 of 4 requests refused" in arm.verdict
    assert arm.requests[1].utility_after == free.requests[1].utility_after
