"""What a server publishes and writes down, request by request."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.server.blocks import cohort
from palimpsest.server.setup import Lineage
from palimpsest.server.unlearning.ascent import Ascent
from palimpsest.server.unlearning.ignore import Ignore
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.simulator.federation.federation import FederationError
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, Bench, record_requests
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.records import DeletionRequest

ROUNDS = FEDAVG.rounds


def _bench(directory: Path, **settings: Any) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, **settings)


def _ledger(bench: Bench) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bench.directory / "ledger.jsonl").read_text().splitlines()]


def _events(bench: Bench) -> list[tuple[str, int]]:
    return [(entry["event"], entry["request"]) for entry in _ledger(bench)]


def test_independent_requests_branch_from_one_checkpoint(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    requests = record_requests(bench.population, 3, ROUNDS)
    processed = bench.serve(Ascent(), requests)
    trunk = [release for release in bench.broadcast if release.branch == 0]
    assert [release.round for release in trunk] == list(range(ROUNDS + 1))
    assert [p.before for p in processed] == [ROUNDS] * 3
    assert [bench.broadcast[p.after].branch for p in processed] == [1, 2, 3]
    assert _events(bench) == [
        *[(event, i) for i in range(3) for event in ("requested", "accepted")],
        *[("completed", i) for i in range(3)],
    ]


def test_a_request_in_the_middle_of_training_branches_there(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [request] = record_requests(bench.population, 1, 2)
    [processed] = bench.serve(Retrain(), [request])
    assert processed.before == 2
    assert bench.broadcast[processed.after].round == 2


def test_sequential_requests_each_act_on_the_last_release(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    early, late = record_requests(bench.population, 2, 2)
    late = DeletionRequest(1, 3, "record", late.forget)
    first, second = bench.serve(Retrain(coupling="same-order"), [early, late], sequential=True)
    assert all(release.branch == 0 for release in bench.broadcast)
    # trunk 0-2, retraining 0-2, one round of training on, retraining 0-3, one round of training on
    assert [release.round for release in bench.broadcast] == [0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert (first.before, first.after, second.before, second.after) == (2, 5, 6, 10)
    assert second.case.forgotten == {**early.forget, **late.forget}


def test_training_goes_on_without_what_was_deleted(tmp_path: Path) -> None:
    """Retraining in the same order and training on is training without the record from the start."""
    bench = _bench(tmp_path)
    [early] = record_requests(bench.population, 1, 2)
    bench.serve(Retrain(coupling="same-order"), [early], sequential=True)
    last = bench.broadcast[-1].params
    other = _bench(tmp_path / "other")
    whole = DeletionRequest(0, ROUNDS, "record", early.forget)
    [never_had_it] = other.serve(Retrain(coupling="same-order"), [whole])
    assert np.array_equal(flat(last), flat(never_had_it.released))


def test_a_record_is_deleted_once(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [request] = record_requests(bench.population, 1, ROUNDS)
    again = DeletionRequest(1, ROUNDS, "record", request.forget)
    assert len(bench.serve(Retrain(), [request, again], sequential=True)) == 1
    refusal = _ledger(bench)[-1]
    assert (refusal["event"], refusal["request"]) == ("refused", 1)
    assert "already been deleted" in refusal["reason"]


def test_ignoring_deletes_nothing_so_a_request_can_come_again(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [request] = record_requests(bench.population, 1, ROUNDS)
    again = DeletionRequest(1, ROUNDS, "record", request.forget)
    processed = bench.serve(Ignore(), [request, again], sequential=True)
    assert len(processed) == 2
    assert np.array_equal(flat(processed[0].case.before), flat(processed[1].released))
    assert not any(entry.get("tombstones") for entry in _ledger(bench))


def test_a_client_that_deletes_everything_is_left_with_weight_zero(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    everything = {1: tuple(range(int(bench.population.sizes[1])))}
    request = DeletionRequest(0, ROUNDS, "client", everything)
    for coupling in ("same-order", "reshuffled", "independent"):
        each = _bench(tmp_path / coupling)
        [processed] = each.serve(Retrain.model_validate({"coupling": coupling}), [request])
        assert np.isfinite(flat(processed.released)).all()


def test_a_request_of_all_records_leaves_the_initial_model(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    population = bench.population
    everything = {client: tuple(range(int(population.sizes[client]))) for client in range(population.clients)}
    [processed] = bench.serve(Retrain(coupling="same-order"), [DeletionRequest(0, ROUNDS, "client", everything)])
    assert np.array_equal(flat(processed.released), flat(bench.broadcast[0].params))


def test_rounds_between_are_not_seen(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [request] = record_requests(bench.population, 1, ROUNDS)
    [processed] = bench.serve(Ignore(), [request], rounds_between=3)
    assert processed.before == ROUNDS
    assert len(bench.broadcast) == ROUNDS + 2
    longer = _bench(tmp_path / "longer", plan=FEDAVG.model_copy(update={"rounds": ROUNDS + 3}))
    assert np.array_equal(flat(processed.released), flat(longer.history().record.releases[-1].params))


def test_tombstones_bind_after_completion_on_their_branch(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [request] = record_requests(bench.population, 1, ROUNDS)
    bench.serve(Ascent(), [request])
    federation, [client] = bench.federation(), request.forget
    model = [bench.broadcast[-1].params]
    with pytest.raises(FederationError, match=rf"client {client} has deleted its records \[0\] on branch 1"):
        federation.ask(Gradient(bench.spec, [Block(0, 1, (client,), {})], model))
    federation.ask(Gradient(bench.spec, [Block(0, 1, (client,), request.forget)], model))
    federation.ask(Gradient(bench.spec, [Block(0, 2, (client,), {})], model))


def test_couplings_share_what_they_say(tmp_path: Path) -> None:
    """A retraining that forgets nothing it had used shows which streams it shares with the first training."""
    plan = FEDAVG.model_copy(update={"clients_per_round": 3, "rounds": 2})
    trunk = _bench(tmp_path / "trunk", plan=plan).history()
    first = [release.params for release in trunk.record.releases]
    taken = _clients_seen(tmp_path, plan)
    idle = next(c for c in range(12) if c not in taken)
    request = DeletionRequest(0, 2, "client", {idle: tuple(range(int(digits_population().sizes[idle])))})
    after = {}
    for coupling in ("same-order", "reshuffled", "independent"):
        bench = _bench(tmp_path / coupling, plan=plan)
        bench.serve(Retrain.model_validate({"coupling": coupling}), [request])
        after[coupling] = [release.params for release in bench.broadcast if release.branch == 1]
    assert all(np.array_equal(flat(a), flat(b)) for a, b in zip(after["same-order"], first, strict=True))
    assert np.array_equal(flat(after["reshuffled"][0]), flat(first[0]))
    assert not np.array_equal(flat(after["reshuffled"][1]), flat(first[1]))
    assert not np.array_equal(flat(after["independent"][0]), flat(first[0]))


def _clients_seen(directory: Path, plan: Any) -> set[int]:
    setup = _bench(directory / "cohorts", plan=plan).history().record.setup
    return {client for round in range(plan.rounds) for client in cohort(setup, Lineage(0, {}), round)}
