"""What an arm is measured by, on models whose answers are worked out another way."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_auc_score

from palimpsest.server.history import History
from palimpsest.simulator.federation.federation import Costs
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, SOFTMAX, Bench
from palimpsest.simulator.unlearning_metrics.compare import Ended, UnlearningEvaluator
from palimpsest.simulator.unlearning_metrics.costs import cost
from palimpsest.simulator.unlearning_metrics.reference import Reference, retrained
from palimpsest.simulator.unlearning_metrics.relearning import relearn, relearned
from palimpsest.simulator.world.data.backdoor import BackdoorConfig, marked
from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import DeletionRequest, Params
from palimpsest.simulator.world.seeding import generator

Figures = dict[str, Any]

BACKDOOR = BackdoorConfig(target=3, patch=(0, 0, 2, 2), clients=(1,))
FORGET = {2: (0, 1, 2), 5: (1,)}


def _case(before: Params, index: int = 0) -> UnlearningCase:
    return UnlearningCase(index + 1, DeletionRequest(index, 4, "record", FORGET), FORGET, 4, before)


@pytest.fixture(scope="module")
def models() -> list[Params]:
    """Five models, none like another: trained, unlearned, and three retrained ones."""
    return [{k: 3 * v for k, v in model_of(SOFTMAX).init(generator(seed, "init")).items()} for seed in range(5)]


def _scores(params: Params, x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64) @ params["weight"].T.astype(np.float64) + params["bias"]


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(((p - q) * (np.log(p) - np.log(q))).sum(1).mean())


def _right(params: Params, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _scores(params, x).argmax(1) == y


def _losses(params: Params, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -np.log(softmax(_scores(params, x), 1)[np.arange(len(y)), y])


def _utility_by_hand(population: Population, unlearned: Params, again: Sequence[Params], kept: np.ndarray) -> Figures:
    test = (population.test_x, population.test_y)
    owners = np.repeat(np.arange(12), population.sizes)[kept]
    hits = _right(unlearned, population.train_x[kept], population.train_y[kept])
    return {
        "unlearned": _right(unlearned, *test).mean(),
        "retrained": np.mean([_right(m, *test).mean() for m in again]),
        "retrained_spread": np.std([_right(m, *test).mean() for m in again], ddof=1),
        "retained_unlearned": hits.mean(),
        "worst_client_unlearned": min(hits[owners == k].mean() for k in range(12) if (owners == k).sum() >= 10),
    }


def _forgetting_by_hand(population: Population, models: Sequence[Params], gone: np.ndarray) -> Figures:
    trained, unlearned, *again = models
    x, y, test = population.train_x[gone], population.train_y[gone], (population.test_x, population.test_y)
    others = population.test_y != 3
    triggered = marked(BACKDOOR, population.schema, population.test_x[others])
    membership = [
        roc_auc_score(np.repeat([1, 0], [4, 200]), -np.concatenate([_losses(m, x, y), _losses(m, *test)]))
        for m in models
    ]
    gaps = [float(np.linalg.norm(flat(a) - flat(b))) for a, b in zip(again, [*again[1:], again[0]], strict=True)]
    curves = [softmax(_scores(m, population.test_x), 1) for m in models]
    return {
        "forget_accuracy": _right(unlearned, x, y).mean(),
        "forget_loss_trained": log_loss(y, softmax(_scores(trained, x), 1), labels=np.arange(10)),
        "backdoor_success": _right(unlearned, triggered, np.full(len(triggered), 3)).mean(),
        "membership_auc": membership[1],
        "membership_auc_trained": membership[0],
        "membership_auc_gap": abs(membership[1] - np.mean(membership[2:])),
        "distance_to_retrained": np.mean([np.linalg.norm(flat(unlearned) - flat(m)) for m in again]),
        "distance_between_retrained": np.mean(gaps),
        "kl_to_retrained": np.mean([_kl(curves[1], curve) for curve in curves[2:]]),
        "kl_between_retrained": np.mean([_kl(curves[a], curves[b]) for a, b in ((2, 3), (3, 4), (2, 4))]),
        "retrainings": 3,
    }


def test_measures_are_what_they_say(models: list[Params]) -> None:
    """Every figure again from the scores, by scikit-learn and by hand."""
    population = digits_population()
    trained, unlearned, *again = models
    evaluator = UnlearningEvaluator(model_of(SOFTMAX), population, BACKDOOR, seed=0)
    entry, rows = evaluator.worth([Ended(_case(trained), unlearned, again)])
    gone = np.concatenate([population.rows(client, records) for client, records in FORGET.items()])
    kept = np.delete(np.arange(300), gone)
    expected = {
        "utility": _utility_by_hand(population, unlearned, again, kept),
        "forgetting": _forgetting_by_hand(population, models, gone),
    }
    for place, figures in expected.items():
        for name, value in figures.items():
            assert entry[place][name] == pytest.approx(value, rel=1e-5), name
    assert len(rows) == 5
    assert "membership_tpr_at_1_percent" in entry["forgetting"]
    assert "membership_tpr_at_01_percent" not in entry["forgetting"]  # 200 held-out records cannot tell


def test_what_cannot_be_computed_is_absent(models: list[Params]) -> None:
    population = digits_population()
    untested = Population(**{**vars(population), "test_x": population.test_x[:0], "test_y": population.test_y[:0]})
    entry, _ = UnlearningEvaluator(model_of(SOFTMAX), untested, BACKDOOR, 0).worth(
        [Ended(_case(models[0]), *models[1:2], models[2:3])]
    )
    kinds = ("trained", "unlearned", "retrained")
    assert set(entry["utility"]) == {
        "metric",
        *(f"retained_{of}" for of in kinds),
        *(f"worst_client_{of}" for of in kinds),
    }
    assert {name for name in entry["forgetting"] if "trained" not in name} == {
        "retrainings",
        "forget_accuracy",
        "forget_loss",
    }
    assert "distance_between_retrained" not in entry["forgetting"]
    assert UnlearningEvaluator(model_of(SOFTMAX), untested, None, 0).worth([])[0] == {"forgetting": {}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, History]:
    bench = Bench(digits_population(), tmp_path_factory.mktemp("bench"), plan=FEDAVG.model_copy(update={"rounds": 6}))
    return bench, bench.history()


def test_relearning_stops_at_the_level_of_the_trained_model(trained: tuple[Bench, History]) -> None:
    """The trained model is there already; a fresh one takes as many rounds as training on from it shows."""
    bench, history = trained
    before, start = history.record.released(6), history.record.released(0)
    evaluator = UnlearningEvaluator(model_of(SOFTMAX), bench.population, None, 0)
    cases = [_case(before, 0), _case(before, 1), _case(before, 2)]
    losses = [evaluator.loss_of(FORGET)] * 3
    assert relearn(history, cases, [before, start, start], losses, most=0) == [0, 1, 1]
    needed = relearn(history, cases, [before, start, start], losses, most=30)
    assert needed[0] == 0
    assert 1 < needed[1] <= 30
    alone = relearn(history, cases[1:2], [start], losses[:1], most=needed[1] - 1)
    assert alone == [needed[1]]  # one round fewer is not enough, and company changes nothing


def test_relearning_is_reported_where_most_models_got_there() -> None:
    found = relearned({0: 2, 1: 4, 2: 11}, {0: 11, 1: 11, 2: 3}, most=10)
    assert found == {
        "relearning_rounds": 4.0, "relearning_reached": pytest.approx(2 / 3),
        "relearning_reached_retrained": pytest.approx(1 / 3),
    }  # fmt: skip
    assert relearned({}, {}, 10) == {}


def test_retrainings_differ_and_the_first_is_charged(trained: tuple[Bench, History]) -> None:
    bench, history = trained
    evaluator = UnlearningEvaluator(model_of(SOFTMAX), bench.population, None, 0)
    found = retrained(
        history, lambda arm: bench.but(arm=arm).federation(), [_case(history.record.released(6))], 2, evaluator.on_test
    )
    one, other = found.of(0)
    assert not np.array_equal(flat(one), flat(other))
    assert [round for round, _ in found.curves[0]] == list(range(5))  # a request after four rounds
    assert found.curves[0][-1][1] == evaluator.on_test([one])[0]
    assert found.costs.client_updates == 4 * 6
    assert found.costs.client_seconds > 0.0


def test_speed_up_is_over_the_first_round_that_is_as_good() -> None:
    reference = Reference(
        models=[{0: {}, 1: {}}],
        curves={
            0: [(0, 0.1), (1, 0.5), (2, 0.8), (3, 0.7), (4, 0.9)],
            1: [(0, 0.1), (1, 0.2), (2, 0.3), (3, 0.4), (4, 0.5)],
        },
        seconds=10.0,
        costs=Costs(client_updates=80),
    )
    entry = cost(Costs(client_updates=10), 2.0, 0, reference, {0: 0.75, 1: 0.95})
    share = (2 / 4 + 1.0) / 2  # after two rounds of four; never
    assert entry["speed_up_seconds"] == pytest.approx(share * 10.0 / 2.0)
    assert entry["speed_up_client_updates"] == pytest.approx(share * 80 / 10)
    free = cost(Costs(), 2.0, 0, reference, {0: 0.75})
    assert "speed_up_client_updates" not in free
    assert free["speed_up_seconds"] == pytest.approx(0.5 * 0.5 * 10.0 / 2.0)  # one of the two requests
    assert "speed_up_seconds" not in cost(Costs(), 2.0, 0, reference, {})
