"""Several clients ask, at once, in a stream, twice, or come back: what the ledger says, and what is released."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.server.arrivals import Arrival
from palimpsest.server.ledger import Ledger
from palimpsest.server.session import ChainState, Session
from palimpsest.server.setup import Lineage, Setup, TrainingPlan
from palimpsest.server.training import train
from palimpsest.server.unlearning.downdate import Downdate
from palimpsest.server.unlearning.finetune import Finetune
from palimpsest.server.unlearning.ignore import Ignore
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.server.unlearning.rollback import Rollback
from palimpsest.simulator.federation.federation import FederationError
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, RIDGE, Bench, record_requests
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.protocols.unlearning import Unlearner
from palimpsest.simulator.world.records import DeletionRequest, Forget, Params, Release

ROUNDS = FEDAVG.rounds
SAME = Retrain(coupling="same-order")
CHAINS = pytest.mark.parametrize("unlearner", [SAME, Rollback()])


def _bench(directory: Path, **settings: Any) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, **settings)


def _all_of(bench: Bench, *clients: int) -> Forget:
    return {client: tuple(range(int(bench.population.sizes[client]))) for client in clients}


def _leave(bench: Bench, index: int, round: int, *clients: int, rejoin: int | None = None) -> DeletionRequest:
    return DeletionRequest(index, round, "client", _all_of(bench, *clients), rejoin=rejoin)


def _ledger(bench: Bench) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bench.directory / "ledger.jsonl").read_text().splitlines()]


def _events(bench: Bench) -> list[tuple[str, int]]:
    return [(entry["event"], entry["request"]) for entry in _ledger(bench)]


def _trained(bench: Bench, gone: Forget, start: Params | None = None, first: int = 0, last: int = ROUNDS) -> Params:
    """The model of an ordinary training in the trunk's streams, by the training loop alone."""
    setup = Setup(bench.spec, bench.plan, bench.population.sizes, bench.block_size, bench.seed)
    lineage = Lineage(0, gone, first=first, last=last)
    untold = bench.but(arm="oracle").federation()  # the clients have deleted nothing for this arm
    return list(train(setup, [lineage], untold, None if start is None else [start]))[-1].models[0]


def _reads(bench: Bench, branch: int, client: int) -> None:
    bench.federation().ask(Gradient(bench.spec, [Block(0, branch, (client,), {})], [bench.broadcast[-1].params]))


def test_clients_that_ask_together_are_one_request(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [processed] = bench.serve(SAME, [_leave(bench, 0, ROUNDS, 2, 5, 7)])
    assert _events(bench) == [("requested", 0), ("accepted", 0), ("completed", 0)]
    assert set(_ledger(bench)[0]["records"]) == {"2", "5", "7"}
    assert np.array_equal(flat(processed.released), flat(_trained(bench, _all_of(bench, 2, 5, 7))))
    for client in (2, 5, 7):
        with pytest.raises(FederationError, match=f"client {client} has deleted"):
            _reads(bench, 1, client)
    _reads(bench, 1, 3)


@CHAINS
def test_requests_arrive_while_training_goes_on(tmp_path: Path, unlearner: Unlearner) -> None:
    """Each is served before the next round; who asked last is gone from the start as well."""
    bench = _bench(tmp_path)
    requests = [_leave(bench, 0, 1, 2), _leave(bench, 1, 3, 5), _leave(bench, 2, 3, 7)]
    bench.serve(unlearner, requests, sequential=True)
    assert _events(bench) == [(event, i) for i in range(3) for event in ("requested", "accepted", "completed")]
    assert bench.broadcast[-1].round == ROUNDS
    assert np.array_equal(flat(bench.broadcast[-1].params), flat(_trained(bench, _all_of(bench, 2, 5, 7))))


@CHAINS
def test_a_client_that_comes_back_takes_part_again(tmp_path: Path, unlearner: Unlearner) -> None:
    bench = _bench(tmp_path, plan=FEDAVG.model_copy(update={"clients_per_round": 0}))
    bench.serve(unlearner, [_leave(bench, 0, 2, 3, rejoin=3)], sequential=True)
    assert _events(bench) == [("requested", 0), ("accepted", 0), ("completed", 0), ("rejoined", 0)]
    rejoined = _ledger(bench)[-1]
    assert (rejoined["round"], rejoined["records"]) == (3, {"3": list(_all_of(bench, 3)[3])})
    apart = _trained(bench, _all_of(bench, 3), last=3)
    assert np.array_equal(flat(bench.broadcast[-1].params), flat(_trained(bench, {}, apart, first=3)))
    assert not np.array_equal(flat(bench.broadcast[-1].params), flat(_trained(bench, _all_of(bench, 3))))
    _reads(bench, 0, 3)


@CHAINS
def test_a_client_that_came_back_may_leave_again(tmp_path: Path, unlearner: Unlearner) -> None:
    """And a retraining for somebody else in between may use what it has consented to anew."""
    bench = _bench(tmp_path)
    requests = [
        _leave(bench, 0, 1, 3, rejoin=2),
        _leave(bench, 1, 2, 5),
        _leave(bench, 2, 3, 3),
        _leave(bench, 3, ROUNDS, 3),
    ]
    processed = bench.serve(unlearner, requests, sequential=True)
    assert [set(p.case.forgotten) for p in processed] == [{3}, {5}, {3, 5}]
    assert np.array_equal(flat(processed[1].released), flat(_trained(bench, _all_of(bench, 5), last=2)))
    assert np.array_equal(flat(bench.broadcast[-1].params), flat(_trained(bench, _all_of(bench, 3, 5))))
    assert [event for event, request in _events(bench) if request == 3] == ["requested", "refused"]
    with pytest.raises(FederationError, match="client 3 has deleted"):
        _reads(bench, 0, 3)


def test_who_never_left_does_not_come_back(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    bench.serve(Ignore(), [_leave(bench, 0, 1, 3, rejoin=2)], sequential=True)
    assert _ledger(bench)[-1]["event"] == "rejoined"
    assert _ledger(bench)[-1]["records"] == {}
    assert np.array_equal(flat(bench.broadcast[-1].params), flat(_trained(bench, {})))


def test_one_record_in_two_requests(tmp_path: Path) -> None:
    """The second is refused, with what it shares, in a chain; as alternatives both are served, and end alike."""
    requests = [DeletionRequest(0, ROUNDS, "record", {3: (1, 2)}), DeletionRequest(1, ROUNDS, "record", {3: (2, 4)})]
    chain = _bench(tmp_path / "chain")
    assert len(chain.serve(SAME, requests, sequential=True)) == 1
    assert _ledger(chain)[-1]["event"] == "refused"
    assert _ledger(chain)[-1]["reason"] == "records [2] of client 3 have already been deleted"
    apart = _bench(tmp_path / "apart")
    same = [DeletionRequest(i, ROUNDS, "record", {3: (1, 2)}) for i in range(2)]
    one, other = apart.serve(SAME, same)
    assert np.array_equal(flat(one.released), flat(other.released))
    assert [event for event, _ in _events(apart)].count("completed") == 2


@pytest.mark.parametrize("unlearner", [SAME, Rollback(), Finetune(rounds=1)])
def test_a_client_may_be_emptied_bit_by_bit(tmp_path: Path, unlearner: Unlearner) -> None:
    bench = _bench(tmp_path)
    size = int(bench.population.sizes[3])
    halves = [tuple(range(size // 2)), tuple(range(size // 2, size))]
    requests = [DeletionRequest(i, 2 + i, "record", {3: half}) for i, half in enumerate(halves)]
    processed = bench.serve(unlearner, [*requests, _leave(bench, 2, ROUNDS, 3)], sequential=True)
    assert processed[-1].case.forgotten == _all_of(bench, 3)
    assert [event for event, request in _events(bench) if request == 2] == ["requested", "refused"]
    assert np.isfinite(flat(bench.broadcast[-1].params)).all()
    if unlearner.card.promises == "exact":
        assert np.array_equal(flat(bench.broadcast[-1].params), flat(_trained(bench, _all_of(bench, 3))))


def test_a_label_that_vanishes_keeps_its_output(tmp_path: Path) -> None:
    """Nothing is left to be 1: ridge's column for the class becomes that of zero targets, which is 0."""
    bench = _bench(tmp_path, spec=RIDGE, plan=TrainingPlan(algorithm="closed-form"))
    population = bench.population
    owned = {c: np.flatnonzero(population.train_y[population.rows(c)] == 3) for c in range(population.clients)}
    forget = {client: tuple(records.tolist()) for client, records in owned.items() if len(records)}
    [processed] = bench.serve(Downdate(), [DeletionRequest(0, 1, "label", forget, label=3)])
    before, after = processed.case.before["weight"], processed.released["weight"]
    assert after.shape == before.shape == (10, 64)
    assert np.abs(after[3]).max() < 1e-12 < np.abs(before[3]).max()
    assert np.abs(processed.released["bias"][3]) < 1e-12


def test_a_state_of_a_chain_is_not_changed_by_a_step_from_it(tmp_path: Path) -> None:
    """The same arrival leads twice from one state to the same next one."""
    bench = Bench(digits_population(), tmp_path)
    history, published = bench.history(), list[Release]()

    def publish(release: Release, parent: int | None) -> tuple[int, Params]:
        published.append(release)
        return len(published) - 1, release.params

    [request] = record_requests(bench.population, 1, 2)
    session = Session(history, Ignore(), history.retrainer.federation, Ledger(tmp_path / "l", "arm"), publish, True, 0)
    start = ChainState(0, history.record.releases[1].params, 1, {}, history.record.statistics)
    (one, first), (other, second) = (session.step(start, Arrival(2, request, False)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (start.round, start.forgotten) == (1, {})
    assert (one.round, one.newest) == (2, first.after)
    for name, value in one.model.items():
        np.testing.assert_array_equal(value, other.model[name])
