"""Strategies of federated training: each equals its definition, and each retraining is free of what was deleted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from palimpsest.server.blocks import cohort
from palimpsest.server.setup import Lineage, TrainingPlan
from palimpsest.server.strategies import CARDS
from palimpsest.server.strategies.fedadam import FedAdam
from palimpsest.server.strategies.fedavg import FedAvg
from palimpsest.server.strategies.fedavgm import FedAvgM
from palimpsest.server.strategies.fedmedian import FedMedian
from palimpsest.server.strategies.fedyogi import FedYogi
from palimpsest.server.strategies.krum import Krum
from palimpsest.server.strategies.scaffold import Scaffold
from palimpsest.server.strategies.trimmed_mean import TrimmedMean
from palimpsest.server.training import train
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.server.unlearning.rollback import Rollback
from palimpsest.server.unlearning.sharded import Sharded
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.scenario.registry import method_class
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, SOFTMAX, Bench, record_requests
from palimpsest.simulator.testing.unlearners import counterfactual_distances
from palimpsest.simulator.world.models.batches import batches_of
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.protocols.strategy import Received, ServerState, Strategy
from palimpsest.simulator.world.records import DeletionRequest, Params
from palimpsest.simulator.world.specs import Optimizer, Schedule

SHAPES = {"bias": (3,), "weight": (3, 5)}
CLIENTS = 7


def made(name: str) -> Strategy:
    """A strategy with its defaults."""
    strategy: Any = method_class("strategy", name)()
    assert isinstance(strategy, Strategy)
    return strategy


def plan_of(name: str, **changes: Any) -> TrainingPlan:
    return FEDAVG.model_copy(update={"strategy": made(name), **changes})


def _round(seed: int) -> tuple[Params, np.ndarray]:
    """Updates of the clients of one round, and how many records each has."""
    rng = np.random.default_rng(seed)
    each = {name: 0.1 * rng.standard_normal((CLIENTS, *shape)) for name, shape in SHAPES.items()}
    return each, rng.integers(1, 9, CLIENTS)


def _reply(model: Params, update: Params, records: int) -> Message:
    arrays = ArrayRecord({name: FlowerArray(model[name] + update[name]) for name in model})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": records})})
    asked = Message(RecordDict(), dst_node_id=1, message_type="train")
    return Message(content, reply_to=asked)


def _by_flower(theirs: Any, models: list[Params], rounds: list[tuple[Params, np.ndarray]]) -> list[Params]:
    """The models that Flower's own strategy makes of the same updates."""
    model, found = models[0], []
    for number, (each, records) in enumerate(rounds, start=1):
        current = ArrayRecord({name: FlowerArray(value) for name, value in model.items()})
        theirs.current_arrays = (
            current if isinstance(theirs, flower.FedAvgM) else {name: np.array(v) for name, v in model.items()}
        )
        updates = [{name: value[k] for name, value in each.items()} for k in range(CLIENTS)]
        replies = [_reply(model, update, int(n)) for update, n in zip(updates, records, strict=True)]
        arrays, _ = theirs.aggregate_train(number, replies)
        model = {name: arrays[name].numpy() for name in SHAPES}
        found.append(model)
    return found


def _by_ours(strategy: Strategy, model: Params, rounds: list[tuple[Params, np.ndarray]]) -> list[Params]:
    state, found = ServerState(), []
    for each, records in rounds:
        mean = {name: np.tensordot(records, value, 1) / records.sum() for name, value in each.items()}
        step, state = strategy.step(Received(mean, each, tuple(range(CLIENTS))), state)
        model = {name: model[name] + step[name] for name in model}
        found.append(model)
    return found


PAIRS = {
    "fedavg": (FedAvg(), flower.FedAvg()),
    "fedavgm": (
        FedAvgM(server_momentum=0.7, server_learning_rate=0.9),
        flower.FedAvgM(server_momentum=0.7, server_learning_rate=0.9),
    ),
    "fedadam": (FedAdam(), flower.FedAdam()),
    "fedmedian": (FedMedian(), flower.FedMedian()),
    "trimmed-mean": (TrimmedMean(trim=0.3), flower.FedTrimmedAvg(beta=0.3)),
    "krum": (Krum(malicious=2), flower.Krum(num_malicious_nodes=2)),
    "fedyogi": (FedYogi(server_learning_rate=0.05), flower.FedYogi(eta=0.05)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_aggregate_is_flowers_on_the_same_updates(name: str) -> None:
    SerialGrid(1)  # Flower's messages want to know who sends them
    ours, theirs = PAIRS[name]
    start = {name: np.random.default_rng(9).standard_normal(shape) for name, shape in SHAPES.items()}
    rounds = [_round(seed) for seed in range(4)]
    for one, other in zip(_by_ours(ours, start, rounds), _by_flower(theirs, [start], rounds), strict=True):
        assert all(np.abs(one[key] - other[key]).max() < 1e-6 for key in start)


@pytest.mark.parametrize("name", CARDS)
def test_the_class_carries_the_card_of_its_name(name: str) -> None:
    assert made(name).card is CARDS[name]
    assert made(name).strategy == name


def _bench(directory: Path, arm: str, plan: TrainingPlan) -> Bench:
    place = directory / arm
    place.mkdir()
    return Bench(digits_population(), place, plan=plan, arm=arm)


def _two(rounds: tuple[int, int]) -> list[DeletionRequest]:
    """Two clients' requests after so many rounds each."""
    requests = record_requests(digits_population(), 2, 1)
    return [DeletionRequest(i, round, "record", requests[i].forget) for i, round in enumerate(rounds)]


@pytest.mark.parametrize("coupling", ["same-order", "independent"])
@pytest.mark.parametrize("name", CARDS)
def test_a_retraining_does_not_depend_on_what_was_deleted(tmp_path: Path, name: str, coupling: str) -> None:
    requests = record_requests(digits_population(), 1, FEDAVG.rounds, size=2)
    unlearner = Retrain.model_validate({"coupling": coupling})
    assert max(counterfactual_distances(unlearner, requests, tmp_path, plan=plan_of(name))) == 0.0


@pytest.mark.parametrize("name", CARDS)
def test_a_client_that_leaves_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    everything = tuple(range(int(digits_population().sizes[1])))
    requests = [DeletionRequest(0, FEDAVG.rounds, "client", {1: everything})]
    unlearner = Retrain(coupling="same-order")
    assert max(counterfactual_distances(unlearner, requests, tmp_path, plan=plan_of(name))) == 0.0


@pytest.mark.parametrize("name", CARDS)
def test_one_two_or_three_hosts_give_one_digest(tmp_path: Path, name: str) -> None:
    digests = set()
    for hosts in (1, 2, 3):
        place = tmp_path / str(hosts)
        place.mkdir()
        bench = Bench(digits_population(), place, plan=plan_of(name), grid=SerialGrid(hosts))
        bench.serve(Retrain(coupling="same-order"), record_requests(bench.population, 2, FEDAVG.rounds))
        digests.add(bench.digest())
    assert len(digests) == 1


@pytest.mark.parametrize("name", CARDS)
def test_rollback_restores_the_state_of_the_server(tmp_path: Path, name: str) -> None:
    """From the restored release on it is a retraining in the same order, bit for bit."""
    plan = plan_of(name, rounds=6, clients_per_round=3)
    bench = Bench(digits_population(), tmp_path, plan=plan)
    requests = record_requests(bench.population, 6, 6)
    rolled = [flat(done.released) for done in bench.serve(Rollback(), requests)]
    starts = {release.round for release in bench.broadcast if release.phase == "unlearning"}
    again = [flat(done.released) for done in bench.serve(Retrain(coupling="same-order"), requests)]
    assert min(starts - {0}) < 6  # somebody goes on from the middle
    assert all(np.array_equal(one, other) for one, other in zip(rolled, again, strict=True))


@pytest.mark.parametrize("name", CARDS)
def test_a_chain_of_rollbacks_goes_on_with_the_state_of_its_newest_model(tmp_path: Path, name: str) -> None:
    """Training on after a rollback, and after a retraining in the same order, are the same bits."""
    plan = plan_of(name, rounds=6, clients_per_round=4)
    ends = []
    for unlearner in (Rollback(), Retrain(coupling="same-order")):
        bench = _bench(tmp_path, unlearner.method, plan)
        bench.serve(unlearner, _two((3, 5)), sequential=True)
        ends.append(flat(bench.broadcast[-1].params))
        assert bench.broadcast[-1].round == 6
    assert np.array_equal(*ends)


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize("sequential", [False, True])
def test_shards_go_on_with_their_own_states(tmp_path: Path, name: str, sequential: bool) -> None:
    plan = plan_of(name, rounds=5, clients_per_round=9, shards=3)
    ends = []
    for unlearner in (Sharded(), Retrain(coupling="same-order")):
        bench = _bench(tmp_path, unlearner.method, plan)
        done = bench.serve(unlearner, _two((3, 4)), sequential=sequential)
        ends.append([flat(one.released) for one in done] + [flat(bench.broadcast[-1].params)])
    assert all(np.array_equal(one, other) for one, other in zip(*ends, strict=True))


def test_scaffold_is_the_papers_algorithm(tmp_path: Path) -> None:
    """Against a loop over clients by autograd, with c_k at the clients: option II."""
    strategy, recipe = Scaffold(server_learning_rate=0.7), FEDAVG.recipe
    bench = Bench(digits_population(), tmp_path, plan=FEDAVG.model_copy(update={"strategy": strategy}))
    history, population, model = bench.history(), bench.population, model_of(SOFTMAX)
    x, y = torch.from_numpy(population.train_x).double(), torch.from_numpy(population.train_y)
    server = {name: torch.tensor(v).double() for name, v in history.record.released(0).items()}
    zero = {name: torch.zeros_like(v) for name, v in server.items()}
    common, own = dict(zero), {k: dict(zero) for k in range(population.clients)}
    for round in range(FEDAVG.rounds):
        moved, changed, clients = dict(zero), dict(zero), cohort(history.record.setup, Lineage(0, {}), round)
        for k in clients:
            local, steps = {name: v.clone().requires_grad_() for name, v in server.items()}, 0
            rows = np.arange(population.offsets[k], population.offsets[k + 1])
            for batch in batches_of(len(rows), (), recipe, bench.seed, ("batches", k, round), compact=False):
                some = rows[batch[batch >= 0]]
                loss = model.losses(model.scores(local, x[some]), y[some]).mean()
                loss = loss + recipe.l2 / 2 * sum((v**2).sum() for v in local.values())
                slopes = dict(zip(local, torch.autograd.grad(loss, list(local.values())), strict=True))
                with torch.no_grad():
                    for name, value in local.items():
                        value -= recipe.learning_rate * (slopes[name] + common[name] - own[k][name])
                steps += 1
            for name, value in local.items():
                gap = value.detach() - server[name]
                new = own[k][name] - common[name] - gap / (steps * recipe.learning_rate)
                moved[name] = moved[name] + gap / len(clients)
                changed[name] = changed[name] + (new - own[k][name]) / population.clients
                own[k][name] = new
        server = {name: v + 0.7 * moved[name] for name, v in server.items()}
        common = {name: v + changed[name] for name, v in common.items()}
        released = history.record.released(round + 1)
        assert all(np.abs(released[name] - server[name].numpy()).max() < 1e-5 for name in server)


def test_the_variate_of_scaffolds_server_is_broadcast_where_broadcasts_are_heard(tmp_path: Path) -> None:
    plan = plan_of("scaffold")
    bench = Bench(digits_population(), tmp_path, plan=plan, keep_working=True)
    history = bench.history()
    heard = [release for release in history.record.releases if release.phase == "working"]
    assert [release.round for release in heard] == [1, 2, 3]  # the first round's is 0
    [state] = history.record.states_after(2)
    assert all(np.allclose(heard[1].params[name], state.arrays["variate"][name]) for name in heard[1].params)


@pytest.mark.parametrize("schedule", ["cosine", "exponential"])
def test_a_schedule_sets_the_rate_of_each_round(tmp_path: Path, schedule: Schedule) -> None:
    """A round is one full-batch step: two trainings differ by their rates alone, until they part."""
    recipe = FEDAVG.recipe.model_copy(update={"batch_size": 300, "local_epochs": 1, "l2": 0.0})
    plan = FEDAVG.model_copy(update={"recipe": recipe, "schedule": schedule, "decay": 0.5})
    factors = [plan.rate(round) for round in range(6)]
    assert factors[0] == 1.0
    assert factors[3] == pytest.approx(0.125 if schedule == "exponential" else (1 + np.cos(3 * np.pi / 4)) / 2)
    assert factors[4] == factors[5] == factors[3]  # recovery goes on at the last rate
    history = Bench(digits_population(), tmp_path, plan=plan).history()
    at = history.record.released(2)
    constant = replace(history.record.setup, plan=plan.model_copy(update={"schedule": "constant"}))
    [step] = train(constant, [Lineage(0, {}, first=2, last=3)], history.retrainer.federation, [at])
    for name, value in at.items():
        assert np.allclose(
            history.record.released(3)[name] - value, factors[2] * (step.models[0][name] - value), atol=1e-6
        )


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_retraining_by_adam_does_not_depend_on_what_was_deleted(tmp_path: Path, optimizer: Optimizer) -> None:
    recipe = FEDAVG.recipe.model_copy(update={"optimizer": optimizer, "learning_rate": 0.01})
    plan = FEDAVG.model_copy(update={"recipe": recipe, "schedule": "cosine"})
    requests = record_requests(digits_population(), 1, FEDAVG.rounds, size=2)
    assert max(counterfactual_distances(Retrain(coupling="same-order"), requests, tmp_path, plan=plan)) == 0.0
