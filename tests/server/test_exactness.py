"""Exact methods: what is released after unlearning does not depend on what was deleted. Others must fail this."""

from pathlib import Path

import numpy as np
import pytest

from palimpsest.server.setup import TrainingPlan
from palimpsest.server.unlearning.ascent import Ascent
from palimpsest.server.unlearning.downdate import Downdate
from palimpsest.server.unlearning.finetune import Finetune
from palimpsest.server.unlearning.ignore import Ignore
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.server.unlearning.rollback import Rollback
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, RIDGE, SOFTMAX, Bench, record_requests
from palimpsest.simulator.testing.unlearners import counterfactual_distances
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.unlearning import Unlearner
from palimpsest.simulator.world.records import DeletionRequest, Forget
from palimpsest.simulator.world.specs import Recipe

COUPLINGS = ["same-order", "reshuffled", "independent"]
LBFGS = TrainingPlan(algorithm="lbfgs", gradient_norm=1e-8)
FEDSGD = TrainingPlan(algorithm="fedsgd", rounds=4, clients_per_round=6, recipe=Recipe(learning_rate=0.2, momentum=0.5))
STEPS = FEDAVG.model_copy(update={"recipe": Recipe(local_steps=2, batch_size=4, learning_rate=0.1)})
CLOSED = TrainingPlan(algorithm="closed-form")
CONVERGED = SOFTMAX.model_copy(update={"dtype": "float64"})


def _requests(level: str, rounds: int) -> list[DeletionRequest]:
    """One request: two records of each of three clients, or a whole client."""
    population = digits_population()
    if level == "record":
        forget = {c: r for request in record_requests(population, 3, rounds, size=2) for c, r in request.forget.items()}
        return [DeletionRequest(0, rounds, "record", forget)]
    return [DeletionRequest(0, rounds, "client", {1: tuple(range(int(population.sizes[1])))})]


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("level", ["record", "client"])
@pytest.mark.parametrize("algorithm", ["fedavg", "fedsgd", "lbfgs", "closed-form"])
def test_retraining_is_counterfactually_invariant_bit_for_bit(
    tmp_path: Path, coupling: str, level: str, algorithm: str
) -> None:
    settings = {
        "fedavg": {"plan": FEDAVG},
        "fedsgd": {"plan": FEDSGD},
        "lbfgs": {"plan": LBFGS, "spec": CONVERGED},
        "closed-form": {"plan": CLOSED, "spec": RIDGE},
    }[algorithm]
    rounds = FEDAVG.rounds if algorithm in ("fedavg", "fedsgd") else 1
    unlearner = Retrain.model_validate({"coupling": coupling})
    assert max(counterfactual_distances(unlearner, _requests(level, rounds), tmp_path, **settings)) == 0.0


@pytest.mark.parametrize("level", ["record", "client"])
@pytest.mark.parametrize("plan", [FEDAVG, STEPS, FEDSGD.model_copy(update={"recipe": Recipe(learning_rate=0.2)})])
def test_rollback_is_counterfactually_invariant_bit_for_bit(tmp_path: Path, level: str, plan: TrainingPlan) -> None:
    assert max(counterfactual_distances(Rollback(), _requests(level, FEDAVG.rounds), tmp_path, plan=plan)) == 0.0


def test_downdate_is_counterfactually_invariant_to_rounding(tmp_path: Path) -> None:
    settings = {"plan": CLOSED, "spec": RIDGE}
    distances = counterfactual_distances(Downdate(), _requests("record", 1), tmp_path, **settings)
    assert max(distances) < 1e-10


@pytest.mark.parametrize("unlearner", [Ascent(), Ignore(), Finetune()])
def test_approximate_methods_fail_the_same_test(tmp_path: Path, unlearner: Unlearner) -> None:
    assert min(counterfactual_distances(unlearner, _requests("record", FEDAVG.rounds), tmp_path)) > 1e-6


@pytest.mark.parametrize("level", ["record", "client"])
def test_downdate_equals_a_refit_that_never_had_the_records(tmp_path: Path, level: str) -> None:
    population = digits_population()
    requests = _requests(level, 1)
    bench = Bench(population, tmp_path, spec=RIDGE, plan=CLOSED)
    for processed in bench.serve(Downdate(), requests):
        kept = np.ones(len(population.train_x), dtype=bool)
        for client, records in processed.case.request.forget.items():
            kept[population.rows(client, records)] = False
        x = np.hstack([population.train_x[kept].astype(np.float64), np.ones((kept.sum(), 1))])
        y = np.eye(10)[population.train_y[kept]]
        # Least squares on augmented rows: no normal equations, unlike the code under test.
        root = np.sqrt(RIDGE.regularisation) * np.eye(65)
        refit = np.linalg.lstsq(np.vstack([x, root]), np.vstack([y, np.zeros((65, 10))]), rcond=None)[0]
        released = np.vstack([processed.released["weight"].T, processed.released["bias"]])
        assert np.abs(released - refit).max() < 1e-10


def test_sequential_downdates_equal_one_refit_of_all(tmp_path: Path) -> None:
    population = digits_population()
    requests = record_requests(population, 4, 1)
    bench = Bench(population, tmp_path, spec=RIDGE, plan=CLOSED)
    one_by_one = bench.serve(Downdate(), requests, sequential=True)[-1].released
    together: Forget = {c: r for request in requests for c, r in request.forget.items()}
    again = bench.but(directory=tmp_path / "again", arm="again")
    again.directory.mkdir()
    at_once = again.serve(Retrain(), [DeletionRequest(0, 1, "record", together)])[0].released
    assert np.abs(flat(one_by_one) - flat(at_once)).max() < 1e-10


def test_an_ascent_step_moves_by_the_gradient(tmp_path: Path) -> None:
    population = digits_population()
    [request] = record_requests(population, 1, FEDAVG.rounds)
    [processed] = Bench(population, tmp_path).serve(Ascent(learning_rate=0.1), [request])
    [(client, records)] = request.forget.items()
    [row] = population.rows(client, records)
    x = np.append(population.train_x[row], 1.0)
    scores = processed.case.before["weight"] @ population.train_x[row] + processed.case.before["bias"]
    probabilities = np.exp(scores) / np.exp(scores).sum()
    gradient = np.outer(x, probabilities - np.eye(10)[population.train_y[row]])
    moved = np.vstack([processed.released["weight"].T, processed.released["bias"]]) - np.vstack(
        [processed.case.before["weight"].T, processed.case.before["bias"]]
    )
    assert np.abs(moved - 0.1 * gradient).max() < 1e-6


def test_ascent_stays_in_its_ball(tmp_path: Path) -> None:
    population = digits_population()
    requests = record_requests(population, 2, FEDAVG.rounds)
    ascent = Ascent(learning_rate=1.0, steps=5, max_distance=0.01)
    for processed in Bench(population, tmp_path).serve(ascent, requests):
        moved = np.linalg.norm(flat(processed.released) - flat(processed.case.before))
        assert moved == pytest.approx(0.01, rel=1e-4)
