"""Sharded unlearning: bit for bit what training every shard from the start without the records ends in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.server.algorithms.step import Step
from palimpsest.server.blocks import cohort
from palimpsest.server.participation import first_use
from palimpsest.server.setup import Lineage, Setup, TrainingPlan
from palimpsest.server.sharding import members, shard_of
from palimpsest.server.training import train
from palimpsest.server.unlearning.finetune import Finetune
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.server.unlearning.sharded import Sharded
from palimpsest.simulator.testing.populations import digits_population, with_records_replaced
from palimpsest.simulator.testing.servers import FEDAVG, Bench
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.unlearning import Unlearner
from palimpsest.simulator.world.records import DeletionRequest, Forget
from palimpsest.simulator.world.specs import Recipe

SHARDS = 3
PLAN = FEDAVG.model_copy(update={"shards": SHARDS, "clients_per_round": 5, "rounds": 5})
STEPS = PLAN.model_copy(update={"recipe": Recipe(local_steps=2, batch_size=4, learning_rate=0.1)})
FEDSGD = TrainingPlan(
    algorithm="fedsgd", shards=SHARDS, rounds=5, clients_per_round=5, recipe=Recipe(learning_rate=0.2)
)
PLANS = pytest.mark.parametrize("plan", [PLAN, STEPS, FEDSGD], ids=["epochs", "steps", "fedsgd"])


def _bench(directory: Path, plan: TrainingPlan = PLAN, **settings: Any) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, plan=plan, **settings)


def _requests(bench: Bench) -> list[DeletionRequest]:
    """A record of one client; clients of one shard and of two, in the middle of training and at its end."""
    setup, sizes = bench.history().record.setup, bench.population.sizes
    one, other = members(setup, 0)[:2], members(setup, 2)[:1]
    wanted: list[tuple[int, Forget]] = [
        (bench.plan.rounds, {int(one[0]): (0,)}),
        (3, {int(c): tuple(range(int(sizes[c]))) for c in one}),
        (bench.plan.rounds, {int(c): tuple(range(int(sizes[c]))) for c in (one[1], other[0])}),
    ]
    return [DeletionRequest(i, round, "client", forget) for i, (round, forget) in enumerate(wanted)]


def test_shards_share_no_client_and_leave_none_out(tmp_path: Path) -> None:
    setup = _bench(tmp_path).history().record.setup
    shards = [members(setup, shard) for shard in range(SHARDS)]
    assert sorted(np.concatenate(shards)) == list(range(12))
    assert all(shard_of(setup, int(client)) == shard for shard, own in enumerate(shards) for client in own)
    for round in range(PLAN.rounds):
        drawn = [cohort(setup, Lineage(0, {}, shard=shard), round) for shard in range(SHARDS)]
        assert [len(own) for own in drawn] == [2, 2, 1]
        assert all(set(own) <= set(shards[shard]) for shard, own in enumerate(drawn))


@PLANS
def test_a_shard_is_trained_as_if_it_were_alone(tmp_path: Path, plan: TrainingPlan) -> None:
    """The release is the mean of models that never heard of one another."""
    bench = _bench(tmp_path, plan)
    history = bench.history()
    alone = []
    for shard in range(SHARDS):
        steps = list(train(history.record.setup, [Lineage(0, {}, shard=shard)], bench.federation()))
        alone.append(flat(steps[-1].models[0]))
    mean = np.mean(alone, axis=0).astype(np.float32)
    assert np.array_equal(flat(history.record.releases[-1].params), mean.astype(np.float64))


@PLANS
def test_it_ends_where_training_the_shards_without_the_records_does(tmp_path: Path, plan: TrainingPlan) -> None:
    sharded, retrained = _bench(tmp_path / "sharded", plan), _bench(tmp_path / "retrained", plan)
    requests = _requests(sharded)
    ends = zip(
        sharded.serve(Sharded(), requests), retrained.serve(Retrain(coupling="same-order"), requests), strict=True
    )
    for one, other in ends:
        assert np.array_equal(flat(one.released), flat(other.released))
        assert not np.array_equal(flat(one.released), flat(one.case.before))


@PLANS
def test_it_is_counterfactually_invariant_bit_for_bit(tmp_path: Path, plan: TrainingPlan) -> None:
    original = _bench(tmp_path / "original", plan)
    for request in _requests(original):
        changed = with_records_replaced(original.population, dict(request.forget), tmp_path / f"c{request.index}")
        other = original.but(population=changed, directory=tmp_path / f"changed{request.index}")
        other.directory.mkdir()
        [one], [two] = original.serve(Sharded(), [request]), other.serve(Sharded(), [request])
        assert np.array_equal(flat(one.released), flat(two.released))
        assert not np.array_equal(flat(one.case.before), flat(two.case.before))


def test_only_the_shards_that_are_touched_are_trained_again(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [_, _, two] = _requests(bench)
    history = bench.history(shards=True)
    [processed] = bench.serve(Sharded(), [two])
    before = history.retrainer.federation.costs.client_updates
    list(Sharded().unlearn(history, [processed.case], history.retrainer.federation))
    asked = history.retrainer.federation.costs.client_updates - before
    by_shard = {shard_of(history.record.setup, client): {client: records} for client, records in two.forget.items()}
    first = {shard: first_use(history.record.setup, forget, PLAN.rounds, shard) for shard, forget in by_shard.items()}
    assert asked == sum((PLAN.rounds - round) * (1 if shard == 2 else 2) for shard, round in first.items())


def test_what_no_shard_used_costs_nothing(tmp_path: Path) -> None:
    bench = _bench(tmp_path, PLAN.model_copy(update={"rounds": 1}))
    history = bench.history(shards=True)
    drawn = {c for shard in range(SHARDS) for c in cohort(history.record.setup, Lineage(0, {}, shard=shard), 0)}
    idle = next(client for client in range(12) if client not in drawn)
    [processed] = bench.serve(Sharded(), [DeletionRequest(0, 1, "client", {idle: (0,)})])
    assert np.array_equal(flat(processed.released), flat(processed.case.before))
    before = vars(history.retrainer.federation.costs).copy()
    list(Sharded().unlearn(history, [processed.case], history.retrainer.federation))
    assert vars(history.retrainer.federation.costs) == before


def test_shard_models_are_heard_where_working_models_are(tmp_path: Path) -> None:
    quiet, loud = _bench(tmp_path / "quiet"), _bench(tmp_path / "loud", keep_working=True)
    [request, *_] = _requests(quiet)
    for bench in (quiet, loud):
        bench.serve(Sharded(), [request])
    assert {release.phase for release in quiet.broadcast} == {"training", "unlearning"}
    assert len([r for r in quiet.broadcast if r.phase == "unlearning"]) == 1
    first_round = [release for release in loud.broadcast if release.round == 1 and release.branch == 0]
    assert [release.phase for release in first_round] == ["working"] * SHARDS + ["training"]
    mean = np.mean([flat(release.params) for release in first_round[:SHARDS]], axis=0)
    assert np.array_equal(flat(first_round[-1].params), mean.astype(np.float32).astype(np.float64))
    again = [release.phase for release in loud.broadcast if release.branch == 1]
    assert again == ["working"] * (len(again) - 1) + ["unlearning"] and len(again) > 1


def _without(bench: Bench, *clients: int) -> Forget:
    return {client: tuple(range(int(bench.population.sizes[client]))) for client in clients}


def _trained(bench: Bench, gone: Forget, **how: Any) -> Step:
    """An ordinary training of all shards, by clients that have deleted nothing."""
    setup = Setup(bench.spec, bench.plan, bench.population.sizes, bench.block_size, bench.seed)
    first, last = how.pop("first", 0), how.pop("last", bench.plan.rounds)
    lineage = Lineage(0, gone, first=first, last=last)
    return list(train(setup, [lineage], bench.but(arm="oracle").federation(), **how))[-1]


@PLANS
@pytest.mark.parametrize("unlearner", [Sharded(), Retrain(coupling="same-order")])
def test_a_stream_of_requests_ends_without_any_of_them(
    tmp_path: Path, plan: TrainingPlan, unlearner: Unlearner
) -> None:
    """Of two shards, two of them of one, with unseen rounds before each and training after the last."""
    bench = _bench(tmp_path, plan.model_copy(update={"rounds": 7}))
    setup = Setup(bench.spec, bench.plan, bench.population.sizes)
    leaving = [int(client) for client in (*members(setup, 0)[:2], members(setup, 2)[0])]
    requests = [DeletionRequest(i, 2 + i, "client", _without(bench, client)) for i, client in enumerate(leaving)]
    processed = bench.serve(unlearner, requests, sequential=True, rounds_between=1)
    for p in processed:
        expected = _trained(bench, p.case.forgotten, last=p.case.round).models[0]
        assert np.array_equal(flat(p.released), flat(expected))
    assert bench.broadcast[-1].round == 7 > processed[-1].case.round
    assert np.array_equal(flat(bench.broadcast[-1].params), flat(_trained(bench, _without(bench, *leaving)).models[0]))


def test_a_client_comes_back_to_its_shard(tmp_path: Path) -> None:
    bench = _bench(tmp_path, PLAN.model_copy(update={"clients_per_round": 0}))
    gone = _without(bench, 3)
    bench.serve(Sharded(), [DeletionRequest(0, 2, "client", gone, rejoin=4)], sequential=True)
    apart = _trained(bench, gone, last=4)
    on = _trained(bench, {}, starts=apart.models, shards=apart.shards, first=4)
    assert np.array_equal(flat(bench.broadcast[-1].params), flat(on.models[0]))
    assert not np.array_equal(flat(on.models[0]), flat(_trained(bench, gone).models[0]))


def test_nothing_goes_on_from_a_merged_model(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    with pytest.raises(ValueError, match="not from a merged one"):
        bench.serve(Finetune(), _requests(bench)[:1])
    with pytest.raises(ValueError, match="models of single shards"):
        bench.history().record.shard_models(0)


def test_bytes_of_the_checkpoints_are_reported(tmp_path: Path) -> None:
    history = _bench(tmp_path).history(shards=True)
    values = SHARDS * (PLAN.rounds + 1) * 650
    assert values * 8 <= history.record.stored_for(Sharded.card.needs) < values * 8 + 200 * (PLAN.rounds + 1)
