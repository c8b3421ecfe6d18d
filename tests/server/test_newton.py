"""The Newton step and its certificate, against refits and residuals computed without the code under test."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palimpsest.server.algorithms.conjugate import solve
from palimpsest.server.setup import TrainingPlan
from palimpsest.server.unlearning.downdate import Downdate
from palimpsest.server.unlearning.newton import Newton
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import RIDGE, SOFTMAX, Bench, record_requests
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.protocols.federation import PERTURBATION, Block
from palimpsest.simulator.world.protocols.questions import Hessian
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.seeding import Key, generator

SIGMA = 20.0
LBFGS = TrainingPlan(algorithm="lbfgs", gradient_norm=1e-7, perturbation=SIGMA)
CLOSED = TrainingPlan(algorithm="closed-form", perturbation=0.1)
FLOAT64 = SOFTMAX.model_copy(update={"dtype": "float64"})


def _bench(directory: Path, **settings: Any) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, **settings)


def _slope(key: Key) -> dict[str, np.ndarray]:
    rng = generator(0, *key)
    return {"weight": SIGMA * rng.standard_normal((10, 64)), "bias": SIGMA * rng.standard_normal(10)}


def _residual(bench: Bench, params: Params, case: UnlearningCase | None, key: Key) -> float:
    """Length of the perturbed objective's gradient over what is retained, by autograd on all records at once."""
    population, model = bench.population, model_of(FLOAT64)
    kept = np.ones(len(population.train_x), dtype=bool)
    for client, records in (case.forgotten if case else {}).items():
        kept[population.rows(client, records)] = False
    leaves = {name: torch.tensor(params[name], requires_grad=True) for name in params}
    x, y = torch.tensor(population.train_x[kept]).double(), torch.tensor(population.train_y[kept])
    value = model.losses(model.scores(leaves, x), y).sum()
    value = value + sum(
        0.5 * FLOAT64.regularisation * (leaf**2).sum() + (torch.tensor(_slope(key)[name]) * leaf).sum()
        for name, leaf in leaves.items()
    )
    value.backward()
    return math.sqrt(sum(float((leaf.grad**2).sum()) for leaf in leaves.values()))


def test_conjugate_gradients_solve_what_they_are_asked() -> None:
    rng = np.random.default_rng(0)
    root, right = rng.standard_normal((30, 40)), rng.standard_normal(30)
    matrix = root @ root.T + np.eye(30)
    search = solve(right, 1e-12, 500)
    vector = next(search)
    with pytest.raises(StopIteration) as done:
        while True:
            vector = search.send(matrix @ vector)
    found = done.value.value
    assert np.abs(found - np.linalg.solve(matrix, right)).max() < 1e-9


def test_on_least_squares_newton_is_downdate(tmp_path: Path) -> None:
    requests = record_requests(digits_population(), 4, 1, size=3)
    one = _bench(tmp_path / "a", plan=CLOSED, spec=RIDGE).serve(Newton(), requests)
    other = _bench(tmp_path / "b", plan=CLOSED, spec=RIDGE).serve(Downdate(), requests)
    for newton, downdate in zip(one, other, strict=True):
        assert newton.notes["retrained"] == 0.0
        assert np.abs(flat(newton.released) - flat(downdate.released)).max() < 1e-8
        assert np.abs(flat(newton.released) - flat(newton.case.before)).max() > 1e-4


def test_training_minimises_the_perturbed_objective(tmp_path: Path) -> None:
    bench = _bench(tmp_path, plan=LBFGS, spec=FLOAT64)
    released = bench.history().record.releases[-1].params
    assert _residual(bench, released, None, PERTURBATION) <= 1e-7 + 1e-9


@pytest.mark.parametrize("sequential", [False, True])
def test_the_certificate_holds_on_logistic_regression(tmp_path: Path, sequential: bool) -> None:
    bench = _bench(tmp_path, plan=LBFGS, spec=FLOAT64)
    requests = record_requests(bench.population, 3, 1)
    processed = bench.serve(Newton(), requests, sequential=sequential)
    trained, left, undone = processed[0].case.before, 0.0, 0.0
    for p in processed:
        measured = _residual(bench, p.released, p.case, PERTURBATION)
        assert p.notes["residual"] == pytest.approx(measured, rel=1e-6)
        assert p.notes["budget"] == pytest.approx(SIGMA / math.sqrt(2 * math.log(1.5e4)))
        assert p.notes["retrained"] == 0.0
        assert measured < p.notes["budget"]
        left, undone = left + measured, undone + _residual(bench, trained, p.case, PERTURBATION)
    assert left < 0.5 * undone  # what doing nothing would have left


def test_a_spent_budget_means_retraining_with_a_new_perturbation(tmp_path: Path) -> None:
    bench = _bench(tmp_path, plan=LBFGS, spec=FLOAT64)
    requests = record_requests(bench.population, 2, 1)
    first, second = bench.serve(Newton(epsilon=1e-9), requests, sequential=True)
    for p in (first, second):
        assert p.notes["retrained"] == 1.0
        assert p.notes["residual"] > p.notes["budget"]
        fresh = ("unlearning-perturbation", p.case.request.index)
        assert _residual(bench, p.released, p.case, fresh) <= 1e-7 + 1e-9
    # The second step knew that its start was trained with the first retraining's perturbation.
    assert second.notes["residual"] < 1.0 < np.linalg.norm(flat(_slope(PERTURBATION)))


def test_it_hides_nothing_from_who_sees_both_models(tmp_path: Path) -> None:
    """H times the difference is the deleted record's gradient: of rank one, and along the record."""
    bench = _bench(tmp_path, plan=LBFGS, spec=FLOAT64)
    [request] = record_requests(bench.population, 1, 1)
    [p] = bench.serve(Newton(), [request])
    moved = {name: p.released[name] - p.case.before[name] for name in ("weight", "bias")}
    blocks = [Block(0, 9, tuple(range(bench.population.clients)), request.forget)]
    [curved] = bench.federation().ask(Hessian(FLOAT64, blocks, [p.case.before], [moved]))
    gradient = curved.sums["weight"] + FLOAT64.regularisation * moved["weight"]
    _, values, right = np.linalg.svd(gradient)
    [(client, records)] = request.forget.items()
    record = bench.population.train_x[bench.population.rows(client, records)][0].astype(float)
    assert values[1] < 1e-6 * values[0]
    assert abs(right[0] @ record) > (1 - 1e-9) * np.linalg.norm(record)
