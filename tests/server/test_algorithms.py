"""Training algorithms against independent solvers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from palimpsest.server.algorithms import lbfgs
from palimpsest.server.algorithms.lbfgs import NotConvergedError
from palimpsest.server.blocks import cohort
from palimpsest.server.setup import Lineage, Setup, TrainingPlan
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.simulator.testing.populations import digits_population, with_an_empty_client
from palimpsest.simulator.testing.servers import FEDAVG, SOFTMAX, Bench, record_requests
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Recipe

CONVERGED = SOFTMAX.model_copy(update={"dtype": "float64"})


@pytest.mark.parametrize("kind", ["softmax", "svm", "ridge"])
def test_lbfgs_reaches_the_optimum(tmp_path: Path, kind: str) -> None:
    population = digits_population()
    spec = CONVERGED.model_copy(update={"kind": kind})
    model = model_of(spec)
    plan = TrainingPlan(algorithm="lbfgs", gradient_norm=1e-6)
    released = Bench(population, tmp_path, spec=spec, plan=plan).history().record.releases[-1].params
    x, y = torch.from_numpy(population.train_x).double(), torch.from_numpy(population.train_y)

    def objective(vector: np.ndarray) -> tuple[float, np.ndarray]:
        bias, weight = vector[:10], vector[10:].reshape(10, 64)
        leaves = {"weight": torch.tensor(weight, requires_grad=True), "bias": torch.tensor(bias, requires_grad=True)}
        value = model.losses(model.scores(leaves, x), y).sum()
        value = value + 0.5 * spec.regularisation * sum((leaf**2).sum() for leaf in leaves.values())
        value.backward()
        return value.item(), np.concatenate([leaves["bias"].grad.numpy(), leaves["weight"].grad.numpy().ravel()])

    assert np.linalg.norm(objective(flat(released))[1]) <= 1e-6
    found = minimize(
        objective, np.zeros(650), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-7}
    )
    assert np.abs(found.x - flat(released)).max() < 1e-5


def test_lbfgs_says_loudly_that_it_did_not_converge(tmp_path: Path) -> None:
    plan = TrainingPlan(algorithm="lbfgs", gradient_norm=1e-6, max_evaluations=5)
    with pytest.raises(NotConvergedError, match=r"after 5 evaluations at a gradient norm of .*raise training.stop"):
        Bench(digits_population(), tmp_path, spec=CONVERGED, plan=plan).history()


def test_lbfgs_solves_few_or_many_together_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = TrainingPlan(algorithm="lbfgs", gradient_norm=1e-6)
    bench = Bench(digits_population(), tmp_path, spec=CONVERGED, plan=plan)
    requests = record_requests(bench.population, 3, rounds=1)
    together = [flat(done.released) for done in bench.serve(Retrain(), requests)]
    monkeypatch.setattr(lbfgs, "_TOGETHER", 1)
    alone = [flat(done.released) for done in bench.serve(Retrain(), requests)]
    assert all(np.array_equal(one, other) for one, other in zip(together, alone, strict=True))


def test_fedavg_weighs_clients_by_their_records(tmp_path: Path) -> None:
    """One round of one full-batch step each is a step along the pooled gradient, whatever the partition."""
    population = digits_population()
    everyone = TrainingPlan(algorithm="fedavg", rounds=1, recipe=Recipe(batch_size=300, learning_rate=0.1, l2=0.01))
    pooled = TrainingPlan(algorithm="fedsgd", rounds=1, recipe=Recipe(learning_rate=0.1, l2=0.01))
    for plan in (everyone, pooled):
        (tmp_path / plan.algorithm).mkdir()
    averaged = Bench(population, tmp_path / "fedavg", plan=everyone).history().record.releases[-1].params
    stepped = Bench(population, tmp_path / "fedsgd", plan=pooled).history().record.releases[-1].params
    model = model_of(SOFTMAX)
    start = Bench(population, tmp_path / "fedsgd", plan=pooled).history().record.releases[0].params
    leaves = {name: value.requires_grad_() for name, value in model.tensors(start).items()}
    x, y = torch.from_numpy(population.train_x), torch.from_numpy(population.train_y)
    (model.losses(model.scores(leaves, x), y).mean() + 0.005 * sum((v**2).sum() for v in leaves.values())).backward()
    for name, leaf in leaves.items():
        expected = (leaf - 0.1 * leaf.grad).detach().numpy()
        assert np.abs(averaged[name] - expected).max() < 1e-6
        assert np.abs(stepped[name] - expected).max() < 1e-6


def test_poisson_sampling_draws_cohorts_of_the_right_size(tmp_path: Path) -> None:
    plan = FEDAVG.model_copy(update={"clients_per_round": 0, "sampling_rate": 0.3, "rounds": 40})
    bench = Bench(digits_population(), tmp_path, plan=plan)
    history = bench.history()
    taken = history.retrainer.federation.costs.client_updates
    assert abs(taken - 40 * 12 * 0.3) < 4 * np.sqrt(40 * 12 * 0.3 * 0.7)


def test_rounds_without_anybody_leave_the_model_as_it_is(tmp_path: Path) -> None:
    plan = FEDAVG.model_copy(update={"clients_per_round": 0, "sampling_rate": 1e-9})
    releases = Bench(digits_population(), tmp_path, plan=plan).history().record.releases
    assert all(np.array_equal(flat(releases[0].params), flat(release.params)) for release in releases)


def test_a_cohort_leaves_out_those_without_records_and_nobody_else() -> None:
    """Against a draw among the ids themselves; over many rounds, everybody else takes part."""
    population = with_an_empty_client(with_an_empty_client(digits_population()))
    setup = Setup(SOFTMAX, FEDAVG, population.sizes)
    gone = {client: tuple(range(int(population.sizes[client]))) for client in (0, 5, 6)}
    some = {3: (0,)}
    lineage = Lineage(0, gone | some, cohorts_of_rest=True)
    present = [client for client in range(12) if client not in gone]
    seen: set[int] = set()
    for round in range(30):
        drawn = generator(setup.seed, "cohorts", round).choice(present, size=6, replace=False)
        assert cohort(setup, lineage, round) == tuple(drawn.tolist())
        seen |= set(drawn.tolist())
        everybody = generator(setup.seed, "cohorts", round).choice(np.arange(14), size=6, replace=False)
        assert cohort(setup, Lineage(0, gone), round) == tuple(everybody.tolist())
    assert seen == set(present)
