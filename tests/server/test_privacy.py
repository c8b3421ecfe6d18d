"""Training, unlearning and recovery under differential privacy: who is read, who pays, and what stays hidden."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from palimpsest.defenses.central_dp import CentralDp
from palimpsest.defenses.dp_sgd import DpSgd
from palimpsest.server.blocks import cohort
from palimpsest.server.guarded import UnprotectedError
from palimpsest.server.history import History
from palimpsest.server.setup import Lineage, TrainingPlan
from palimpsest.server.unlearning import CARDS
from palimpsest.server.unlearning.ascent import Ascent
from palimpsest.server.unlearning.finetune import Finetune
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.planning.privacy import EpsilonMeter, PrivacyBudget, privacy_entry
from palimpsest.simulator.scenario.registry import method_class
from palimpsest.simulator.testing.populations import digits_population, with_records_replaced
from palimpsest.simulator.testing.servers import FEDAVG, Bench, record_requests
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.defense import Defense
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.protocols.questions import Gradient, Hessian, RidgeFactors, RidgeStatistics, Train
from palimpsest.simulator.world.records import DeletionRequest
from palimpsest.simulator.world.specs import Ascent as Climb
from tests.support.noise import assert_deviation

DEFENSES: dict[str, Defense] = {"dp-sgd": DpSgd(noise_multiplier=1.0, clip=0.5), "central-dp": CentralDp(clip=0.5)}
METER = EpsilonMeter(1e-5)
REQUEST = DeletionRequest(0, FEDAVG.rounds, "record", {3: (0, 2)})


def _bench(directory: Path, kind: str = "dp-sgd", **settings: object) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, defense=DEFENSES[kind], **settings)


def _participation(history: History, lineage: Lineage, rounds: int) -> Counter[int]:
    return Counter(client for round in range(rounds) for client in cohort(history.record.setup, lineage, round))


def test_records_pay_for_the_rounds_that_their_client_took_part_in_and_for_every_retraining(tmp_path: Path) -> None:
    """A deleted record keeps what it spent; each record that stays pays for the retraining too."""
    bench = _bench(tmp_path)
    bench.serve(Retrain(), [REQUEST])
    account = bench.account
    assert account is not None
    history, size = bench.history(), int(bench.population.sizes[3])
    batches = -(-size // FEDAVG.recipe.batch_size)
    trunk = _participation(history, Lineage(branch=0, forget={}), FEDAVG.rounds)
    again = Lineage(branch=1, forget={}, cohorts=("unlearning-cohorts", 0))
    after = _participation(history, again, FEDAVG.rounds)
    of_round = batches * FEDAVG.recipe.local_epochs
    assert account.spent(1, 3, record=0) == ({(1.0, 1.0 / batches): trunk[3] * of_round} if trunk[3] else {})
    assert account.spent(1, 3)[1.0, 1.0 / batches] == (trunk[3] + after[3]) * of_round


def test_ascent_is_clipped_noised_and_charged_to_the_deleted_alone(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [processed] = bench.serve(Ascent(learning_rate=1.0, steps=2), [REQUEST])
    account = bench.account
    assert account is not None
    paid = Counter(account.spent(1, 3, record=0)) - Counter(account.spent(0, 3, record=0))
    assert paid == {(1.0, 1.0): 2}
    assert account.spent(1, 3) == account.spent(0, 3)
    step = flat(processed.released) - flat(processed.case.before)
    spread = np.sqrt(2.0) * 0.5  # two steps of N(0, 0.5^2), and at most 2 x 2 x 0.5 of signal in 650 dimensions
    assert 0.8 * spread < np.std(step) < 1.25 * spread


@pytest.mark.parametrize("coupling", ["same-order", "independent"])
def test_a_retraining_has_noise_of_its_own_however_it_is_coupled(tmp_path: Path, coupling: str) -> None:
    """From the same start on null data, one round: the pair differs by two independent noises, not by none."""
    population = digits_population(clients=3)
    everything = {client: tuple(range(int(size))) for client, size in enumerate(population.sizes)}
    plan = FEDAVG.model_copy(update={"rounds": 1, "clients_per_round": 3})
    bench = Bench(population, tmp_path, plan=plan, defense=DEFENSES["dp-sgd"])
    history = bench.history()
    lineages = [Lineage(1, everything), Lineage(2, everything, noise=("unlearning-retraining-noise", 0))]
    found = []
    for lineage in lineages:
        block = Block(0, lineage.branch, (0,), everything, noise=lineage.noise)
        start = {name: np.zeros_like(value) for name, value in history.record.releases[0].params.items()}
        found.append(
            flat(
                history.retrainer.federation.ask(Train(bench.spec, [block], [start], 0, history.record.setup.recipe))[
                    0
                ].sums
            )
        )
    assert float(np.abs(np.corrcoef(*found)[0, 1])) < 0.2
    if coupling == "same-order":
        size = int(population.sizes[0])
        one_step = history.record.setup.recipe.model_copy(update={"local_epochs": 1, "batch_size": size, "l2": 0.0})
        block = Block(0, 1, (0,), everything, noise=("alone",))
        sums = history.retrainer.federation.ask(Train(bench.spec, [block], [start], 0, one_step))[0].sums
        assert_deviation(flat(sums), one_step.learning_rate * 0.5)  # n lr sigma C / n


@pytest.mark.parametrize("kind", DEFENSES)
def test_a_deletion_moves_no_weight_and_nobody_out_of_a_cohort(tmp_path: Path, kind: str) -> None:
    bench = _bench(tmp_path, kind)
    history = bench.history()
    gone = {3: tuple(range(int(bench.population.sizes[3])))}
    for round in range(4):
        draws = {
            cohort(history.record.setup, Lineage(branch=1, forget=forget, cohorts_of_rest=True), round)
            for forget in ({}, gone)
        }
        assert len(draws) == 1
    clip = 0.5 if kind == "central-dp" else 0.0
    blocks = [Block(0, 1, (2, 3), forget, update_clip=clip) for forget in ({}, gone)]
    params, recipe = history.record.releases[-1].params, history.record.setup.recipe
    one, other = history.retrainer.federation.ask(Train(bench.spec, blocks, [params, params], 0, recipe))
    assert one.weight == other.weight == (2.0 if clip else float(bench.population.sizes[[2, 3]].sum()))


@pytest.mark.parametrize("kind", DEFENSES)
def test_what_is_released_after_retraining_does_not_depend_on_what_was_deleted(tmp_path: Path, kind: str) -> None:
    released = []
    for name in ("original", "replaced"):
        bench = _bench(tmp_path / name, kind)
        if name == "replaced":
            bench.population = with_records_replaced(bench.population, dict(REQUEST.forget), tmp_path / "other")
        bench.serve(Retrain(coupling="same-order"), [REQUEST])
        released.append([flat(r.params) for r in bench.broadcast if r.phase == "unlearning"])
    assert all(np.array_equal(one, other) for one, other in zip(*released, strict=True))


def test_private_training_has_one_digest_whatever_the_hosts_and_blocks_in_a_message(tmp_path: Path) -> None:
    digests = []
    for hosts in (1, 3):
        bench = _bench(tmp_path / str(hosts), grid=SerialGrid(hosts))
        bench.serve(Finetune(rounds=1), record_requests(bench.population, 3, FEDAVG.rounds))
        digests.append(bench.digest())
    assert digests[0] == digests[1]


def test_fedsgd_steps_by_private_gradients(tmp_path: Path) -> None:
    plan = TrainingPlan(algorithm="fedsgd", rounds=2, clients_per_round=4, recipe=FEDAVG.recipe)
    bench = _bench(tmp_path, plan=plan)
    history = bench.history()
    rounds = _participation(history, Lineage(branch=0, forget={}), 2)
    for client in range(bench.population.clients):
        assert history.record.setup.account.spent(0, client) == ({(1.0, 1.0): rounds[client]} if rounds[client] else {})


def test_nothing_is_read_in_the_clear(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    history = bench.history()
    params, blocks = history.record.releases[-1].params, [Block(0, 1, (3,), {3: (0,)})]
    raw, noised = bench.plan.recipe, history.record.setup.recipe
    assert noised.private is not None
    climbing = [replace(blocks[0], ascent=Climb(epochs=1, learning_rate=0.1))]
    for ask in (
        lambda: history.retrainer.federation.ask(Train(bench.spec, climbing, [params], 0, noised)),
        lambda: history.retrainer.federation.ask(Train(bench.spec, blocks, [params], 0, raw)),
        lambda: history.retrainer.federation.ask(Gradient(bench.spec, blocks, [params])),
        lambda: history.retrainer.federation.ask(Hessian(bench.spec, blocks, [params], [params])),
        lambda: history.retrainer.federation.ask(RidgeFactors(bench.spec, blocks)),
        lambda: history.retrainer.federation.ask(RidgeStatistics(bench.spec, blocks)),
    ):
        with pytest.raises(UnprotectedError, match="in the clear"):
            ask()


PRIVATE = [
    (name, kind, card.levels[-1])
    for name, card in CARDS.items()
    for kind, defense in DEFENSES.items()
    if defense.card.pays_at in card.under and "fedavg" in (card.algorithms or ("fedavg",))
]


@pytest.mark.parametrize(("name", "kind", "level"), PRIVATE)
def test_methods_that_say_so_run_under_privacy(tmp_path: Path, name: str, kind: str, level: str) -> None:
    """Under dp-sgd the federation itself refuses what is in the clear; under central-dp none may ask for more than sums
    that the aggregation noises, which the account shows: a reading without an entry would go unnoticed only there."""
    bench = _bench(tmp_path, kind)
    records = tuple(range(int(bench.population.sizes[3])))
    request = DeletionRequest(0, FEDAVG.rounds, level, {3: records}, label=0 if level == "label" else None)
    unlearner = method_class("unlearning", name)()
    [processed] = bench.serve(unlearner, [request])
    assert np.isfinite(flat(processed.released)).all()


def test_a_request_that_would_pass_the_budget_is_refused_with_the_reason(tmp_path: Path) -> None:
    requests = record_requests(digits_population(), 3, FEDAVG.rounds)
    free = _bench(tmp_path / "free", privacy_budget=PrivacyBudget(METER))
    processed = free.serve(Retrain(), requests)
    highest = [max(p.spent["retained"]["after"]["max"], p.spent["deleted"]["after"]["max"]) for p in processed]
    assert len(set(highest)) > 1
    budget = float(np.mean([min(highest), max(highest)]))
    bound = _bench(tmp_path / "bound", privacy_budget=PrivacyBudget(METER, budget))
    kept = bound.serve(Retrain(), requests)
    assert [p.case.request.index for p in kept] == [i for i, spent in enumerate(highest) if spent <= budget]
    entries = [json.loads(line) for line in (tmp_path / "bound" / "ledger.jsonl").read_text().splitlines()]
    refused = {entry["request"]: entry["reason"] for entry in entries if entry["event"] == "refused"}
    assert set(refused) == {i for i, spent in enumerate(highest) if spent > budget}
    assert all("privacy.budget" in reason and "epsilon" in reason for reason in refused.values())
    assert all(entry["spent"]["unit"] == "record" for entry in entries if entry["event"] == "completed")
    assert bound.account is not None
    entry = privacy_entry(bound.account, PrivacyBudget(METER, budget), kept)
    assert entry["epsilon_max"] <= budget
    assert entry["deleted"]["before"] == entry["deleted"]["after"]


def test_in_a_chain_retained_records_pay_for_one_retraining_after_the_other(tmp_path: Path) -> None:
    bench = _bench(tmp_path, privacy_budget=PrivacyBudget(METER))
    requests = record_requests(bench.population, 2, FEDAVG.rounds)
    first, second = bench.serve(Retrain(), requests, sequential=True)
    assert first.spent["retained"]["after"] == second.spent["retained"]["before"]
    assert second.spent["retained"]["after"]["max"] > first.spent["retained"]["after"]["max"]
    assert first.spent["deleted"]["before"] == first.spent["deleted"]["after"]
