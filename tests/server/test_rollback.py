"""Rollback: bit for bit what retraining in the same order ends in, from where the deleted records first took part."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.server.blocks import cohort
from palimpsest.server.setup import Lineage, TrainingPlan
from palimpsest.server.unlearning.finetune import Finetune
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.server.unlearning.rollback import Rollback
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, Bench
from palimpsest.simulator.world.models.batches import batches_of
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.records import DeletionRequest
from palimpsest.simulator.world.specs import Recipe

RARE = FEDAVG.model_copy(update={"clients_per_round": 2, "rounds": 5})
STEPS = Recipe(local_steps=2, batch_size=4, learning_rate=0.1)
FEDSGD = TrainingPlan(algorithm="fedsgd", rounds=5, clients_per_round=2, recipe=Recipe(learning_rate=0.2))


def _bench(directory: Path, **settings: Any) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, **settings)


def _first_rounds(bench: Bench) -> dict[int, int]:
    """Client -> first round that it takes part in; absent if it never does."""
    setup = bench.history().record.setup
    found: dict[int, int] = {}
    for round in reversed(range(bench.plan.rounds)):
        found |= dict.fromkeys(cohort(setup, Lineage(0, {}), round), round)
    return found


def _leave(bench: Bench, index: int, client: int, records: int | None = None) -> DeletionRequest:
    size = int(bench.population.sizes[client]) if records is None else records
    return DeletionRequest(
        index, bench.plan.rounds, "client" if records is None else "record", {client: (*range(size),)}
    )


@pytest.mark.parametrize("plan", [RARE, FEDSGD], ids=["fedavg", "fedsgd"])
@pytest.mark.parametrize("records", [None, 1], ids=["client", "record"])
def test_rollback_ends_where_retraining_in_the_same_order_does(
    tmp_path: Path, plan: TrainingPlan, records: int | None
) -> None:
    first = _first_rounds(_bench(tmp_path / "cohorts", plan=plan))
    clients = sorted(first, key=lambda client: -first[client])
    rolled, retrained = _bench(tmp_path / "rolled", plan=plan), _bench(tmp_path / "retrained", plan=plan)
    requests = [_leave(rolled, i, client, records) for i, client in enumerate(clients)]
    ends = zip(
        rolled.serve(Rollback(), requests), retrained.serve(Retrain(coupling="same-order"), requests), strict=True
    )
    for one, other in ends:
        assert np.array_equal(flat(one.released), flat(other.released))
    for i, client in enumerate(clients):
        rounds = [release.round for release in rolled.broadcast if release.branch == i + 1]
        assert rounds == list(range(first[client], plan.rounds + 1))
    assert max(first.values()) > 0  # else nothing was saved, and the test above shows nothing


def test_with_local_steps_a_record_is_first_used_when_it_is_first_drawn(tmp_path: Path) -> None:
    """Later than its client's first participation for some records, and bit for bit what retraining ends in."""
    plan = FEDAVG.model_copy(update={"recipe": STEPS})
    first = _first_rounds(_bench(tmp_path / "cohorts", plan=plan))
    rolled, retrained = _bench(tmp_path / "rolled", plan=plan), _bench(tmp_path / "retrained", plan=plan)
    large = int(np.argmax(rolled.population.sizes))
    requests = [DeletionRequest(i, plan.rounds, "record", {large: (i,)}) for i in range(12)]
    ends = zip(
        rolled.serve(Rollback(), requests), retrained.serve(Retrain(coupling="same-order"), requests), strict=True
    )
    for one, other in ends:
        assert np.array_equal(flat(one.released), flat(other.released))
    starts = [min(r.round for r in rolled.broadcast if r.branch == i + 1) for i in range(len(requests))]
    drawn = [_first_drawn(rolled, large, i) for i in range(len(requests))]
    assert starts == drawn
    assert first[large] < max(starts)


def _first_drawn(bench: Bench, client: int, record: int) -> int:
    """The first round whose batches hold a record, from the batches of a client that trains on them."""
    setup = bench.history().record.setup
    for round in range(bench.plan.rounds):
        if client in cohort(setup, Lineage(0, {}), round):
            key = ("batches", client, round)
            if record in batches_of(int(setup.sizes[client]), (), bench.plan.recipe, 0, key, compact=False):
                return round
    return bench.plan.rounds


def test_clients_count_equally_with_local_steps(tmp_path: Path) -> None:
    plan = FEDAVG.model_copy(update={"recipe": STEPS, "rounds": 1, "clients_per_round": 0})
    history = _bench(tmp_path, plan=plan).history(updates=True)
    assert history.record.updates is not None
    _, rows = history.record.updates.read(0)
    moved = flat(history.record.releases[1].params) - flat(history.record.releases[0].params)
    assert np.abs(moved - rows.astype(np.float64).mean(0)).max() < 1e-7


def test_what_was_never_used_costs_nothing(tmp_path: Path) -> None:
    plan = RARE.model_copy(update={"rounds": 2})
    bench = _bench(tmp_path, plan=plan)
    idle = next(c for c in range(12) if c not in _first_rounds(bench))
    history = bench.history()
    before = vars(history.retrainer.federation.costs).copy()
    request = _leave(bench, 0, idle)
    [processed] = bench.serve(Rollback(), [request])
    assert np.array_equal(flat(processed.released), flat(processed.case.before))
    outcomes = list(Rollback().unlearn(history, [processed.case], history.retrainer.federation))
    assert len(outcomes) == 1
    assert vars(history.retrainer.federation.costs) == before


def test_a_chain_of_rollbacks_forgets_all_of_it(tmp_path: Path) -> None:
    plan = RARE
    first = _first_rounds(_bench(tmp_path / "cohorts", plan=plan))
    late, early = sorted(first, key=lambda client: -first[client])[:2]
    chain, at_once = _bench(tmp_path / "chain", plan=plan), _bench(tmp_path / "once", plan=plan)
    requests = [_leave(chain, 0, late), _leave(chain, 1, early)]
    last = chain.serve(Rollback(), requests, sequential=True)[-1]
    together = DeletionRequest(0, plan.rounds, "client", requests[0].forget | requests[1].forget)
    [retrained] = at_once.serve(Retrain(coupling="same-order"), [together])
    assert np.array_equal(flat(last.released), flat(retrained.released))


def test_rounds_between_are_rolled_back_as_well(tmp_path: Path) -> None:
    """A client that only took part in the unseen rounds is taken out of them."""
    plan = RARE.model_copy(update={"rounds": 2})
    bench, longer = _bench(tmp_path / "short", plan=plan), _bench(tmp_path / "long", plan=RARE)
    seen, all_ = _first_rounds(bench), _first_rounds(longer)
    late = next(client for client in all_ if client not in seen)
    [processed] = bench.serve(Rollback(), [_leave(bench, 0, late)], rounds_between=3)
    [retrained] = longer.serve(Retrain(coupling="same-order"), [_leave(longer, 0, late)])
    assert np.array_equal(flat(processed.released), flat(retrained.released))


def test_finetuning_trains_on_the_rest_alone(tmp_path: Path) -> None:
    """Rounds of finetuning are rounds of training in which the leaver neither is drawn nor counts."""
    bench = _bench(tmp_path)
    request = _leave(bench, 0, 3)
    [processed] = bench.serve(Finetune(rounds=3), [request])
    tail = [release for release in bench.broadcast if release.branch == 1]
    assert [(release.round, release.phase) for release in tail] == [(r, "recovery") for r in (5, 6, 7)]
    assert not np.array_equal(flat(processed.released), flat(processed.case.before))
    history = bench.history()
    before = history.retrainer.federation.costs.client_updates
    list(Finetune(rounds=3).unlearn(history, [processed.case], history.retrainer.federation))
    assert history.retrainer.federation.costs.client_updates - before == 3 * FEDAVG.clients_per_round
