"""What a run tells, to whom, and that no listener can change it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from palimpsest.simulator.experiment.observers import Observers, following
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.results.event_log import EventLog
from palimpsest.simulator.world.protocols.events import (
    ArmDone,
    Event,
    Observer,
    RequestDone,
    RoundDone,
    Silent,
    StageBegan,
    TrainingDone,
)
from tests.support.scenarios import small_scenario

RETRAIN, NONE = "retrain--none--seed0", "none--none--seed0"


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def stage_began(self, event: StageBegan) -> None:
        """Keep it."""
        self.events.append(event)

    def round_done(self, event: RoundDone) -> None:
        """Keep it."""
        self.events.append(event)

    def request_done(self, event: RequestDone) -> None:
        """Keep it."""
        self.events.append(event)

    def training_done(self, event: TrainingDone) -> None:
        """Keep it."""
        self.events.append(event)

    def arm_done(self, event: ArmDone) -> None:
        """Keep it."""
        self.events.append(event)

    def rounds(self, arm: str) -> list[RoundDone]:
        """Of an arm, or of the shared training."""
        return [event for event in self.events if isinstance(event, RoundDone) and event.arm == arm]

    def requests(self, arm: str) -> list[RequestDone]:
        """Of an arm."""
        return [event for event in self.events if isinstance(event, RequestDone) and event.arm == arm]


class Faulty(Heard):
    """Raises at every second event."""

    def round_done(self, event: RoundDone) -> None:
        """Raise."""
        super().round_done(event)
        raise RuntimeError("the wire is cut")


def run(directory: Path, observer: Observer | None, **changes: Any) -> dict[str, str]:
    """Run a small scenario in turn; return the digest of every arm."""
    directory.mkdir()
    scenario = small_scenario(**changes)
    results = simulate(scenario, prepare(scenario), directory, SerialGrid(1), observer)
    return {arm["arm"]: arm["transcript_digest"] for arm in results["arms"]}


@pytest.fixture(scope="module")
def alternatives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Heard, Path, dict[str, str]]:
    """What is told of requests that are alternatives, where, and the digests."""
    heard, directory = Heard(), tmp_path_factory.mktemp("runs") / "alternatives"
    return heard, directory, run(directory, heard)


def test_the_shared_training_is_told_round_by_round_as_it_is_measured(
    alternatives: tuple[Heard, Path, dict[str, str]],
) -> None:
    heard, _, _ = alternatives
    rounds = heard.rounds("")
    assert [(done.round, done.phase, done.training) for done in rounds] == [(r, "training", "seed 0") for r in range(4)]
    assert all(done.utility is not None and done.loss is not None and done.epsilon is None for done in rounds)
    assert [done.update_norm is None for done in rounds] == [True, False, False, False]
    assert sorted(done.seconds for done in rounds) == [done.seconds for done in rounds]


def test_an_arm_tells_its_own_releases_its_requests_and_its_end(
    alternatives: tuple[Heard, Path, dict[str, str]],
) -> None:
    heard, _, _ = alternatives
    assert Counter((done.branch, done.phase) for done in heard.rounds(RETRAIN)) == {
        (1, "unlearning"): 4,
        (2, "unlearning"): 4,
    }
    requests = heard.requests(RETRAIN)
    assert [done.request for done in requests] == [0, 1]
    assert all(not done.refused and done.records == 1 and len(done.clients) == 1 for done in requests)
    assert all(done.utility is not None and 0.0 <= done.utility <= 1.0 for done in requests)
    ended = [(event.arm, event.requests, event.completed) for event in heard.events if isinstance(event, ArmDone)]
    assert ended == [(RETRAIN, 2, 2), (NONE, 2, 2)]


def test_stages_come_in_the_order_that_a_terminal_shows(alternatives: tuple[Heard, Path, dict[str, str]]) -> None:
    heard, _, _ = alternatives
    assert [event for event in heard.events if isinstance(event, StageBegan)] == [
        StageBegan("Training: seed 0", 3, "rounds", arms=(0, 2)),
        StageBegan("Reference retraining: seed 0", arms=(0, 2)),
        StageBegan(RETRAIN, arms=(0, 2)),
        StageBegan(NONE, arms=(1, 2)),
    ]


def test_the_log_on_disk_holds_all_but_the_stages(alternatives: tuple[Heard, Path, dict[str, str]]) -> None:
    heard, directory, _ = alternatives
    fresh = EventLog(directory / "no-such-log")
    assert list(fresh.newer()) == []
    log = EventLog.of(directory)
    assert list(log.newer()) == [], "a log begins where it stood when it was opened"
    moved = directory / "moved.jsonl"
    log = EventLog(moved)
    (directory / "events.jsonl").rename(moved)
    assert list(log.newer()) == [event for event in heard.events if not isinstance(event, StageBegan)]


def test_a_listener_that_raises_changes_no_bit_and_is_reported_once(
    alternatives: tuple[Heard, Path, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty, heard = Faulty(), Heard()
    digests = run(tmp_path / "run", Observers([faulty, heard]))
    assert digests == alternatives[2]
    assert capsys.readouterr().err == (
        "warning: Faulty failed at RoundDone and hears no more of this run, which goes on: "
        "RuntimeError: the wire is cut\n"
    )
    assert [type(event) for event in faulty.events] == [StageBegan, RoundDone]
    assert [type(event) for event in heard.events] == [type(event) for event in alternatives[0].events]


def test_a_chain_is_measured_all_its_life_and_tells_what_is_refused(tmp_path: Path) -> None:
    heard = Heard()
    twice = [{"round": 1, "client": 2, "records": [0]}, {"round": 2, "client": 2, "records": [0]}]
    deletion = {"pattern": "sequential", "request": twice, "level": "record"}
    run(tmp_path / "run", heard, deletion=deletion)
    completed, refused = heard.requests(RETRAIN)
    assert (completed.round, completed.refused) == (1, "")
    assert refused.refused == "records [0] of client 2 have already been deleted"
    assert refused.utility is None
    rounds = heard.rounds(RETRAIN)
    assert [(done.phase, done.round) for done in rounds] == [
        ("unlearning", 0),
        ("unlearning", 1),
        ("training", 2),
        ("training", 3),
    ]
    assert all(done.branch == 0 and done.utility is not None and done.loss is not None for done in rounds)


def test_a_line_of_a_host_that_was_killed_hides_no_later_one(tmp_path: Path) -> None:
    log, event = EventLog.of(tmp_path), ArmDone("later", 1, 1, 0.5)
    with (tmp_path / "events.jsonl").open("w") as file:
        file.write('{"event": "ArmDone", "arm": "hal')
    log.arm_done(ArmDone("joined to the half", 1, 1, 0.5))
    log.arm_done(event)
    assert list(log.newer()) == [event]


def test_what_other_processes_write_is_passed_on_but_a_line_half_written(tmp_path: Path) -> None:
    heard, before, during = Heard(), ArmDone("before", 1, 1, 0.5), ArmDone("during", 2, 1, 0.5)
    EventLog.of(tmp_path).arm_done(before)
    own = EventLog.of(tmp_path)
    with following(tmp_path, Observers([heard, own])):
        EventLog.of(tmp_path).arm_done(during)
        with (tmp_path / "events.jsonl").open("a") as file:
            file.write('{"event": "ArmDone", "arm": "hal')
    assert heard.events == [during]
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 3, "what was read is not written again"
