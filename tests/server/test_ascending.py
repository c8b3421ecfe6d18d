"""Methods that walk away from what the leaver has: each step against its formula."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palimpsest.server.unlearning.fedosd import FedOsd, orthogonal_part
from palimpsest.server.unlearning.pga import Pga
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, SOFTMAX, Bench
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.protocols.questions import Gradient, Hessian
from palimpsest.simulator.world.records import DeletionRequest
from palimpsest.simulator.world.specs import Recipe

LEAVER = 3
FULL_BATCH = FEDAVG.model_copy(
    update={"clients_per_round": 0, "recipe": Recipe(batch_size=300, learning_rate=0.1, l2=0.01)}
)


def _bench(directory: Path, **settings: Any) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, **settings)


def _leave(bench: Bench) -> DeletionRequest:
    return DeletionRequest(0, bench.plan.rounds, "client", {LEAVER: tuple(range(int(bench.population.sizes[LEAVER])))})


def _gradients(bench: Bench, params: Any) -> np.ndarray:
    """``[clients, size]`` mean gradient of every client's loss at one model."""
    blocks = [Block(0, 1, (client,), {}) for client in range(bench.population.clients)]
    answers = bench.but(arm="asking").federation().ask(Gradient(SOFTMAX, blocks, [params]))
    return np.stack([flat(answer.sums) / answer.weight for answer in answers])


WHOLE = FEDAVG.model_copy(update={"recipe": FEDAVG.recipe.model_copy(update={"batch_size": 300})})
"""Minibatches that hold a client's records as a whole: a pass is one step."""


def test_pga_starts_from_the_model_of_the_others(tmp_path: Path) -> None:
    bench = _bench(tmp_path, plan=FULL_BATCH)
    [processed] = bench.serve(Pga(learning_rate=1e-9, epochs=1, rounds=0), [_leave(bench)])
    before = flat(processed.case.before)
    update = -0.1 * (_gradients(bench, processed.case.before)[LEAVER] + 0.01 * before)
    sizes = bench.population.sizes
    share = sizes[LEAVER] / sizes.sum()
    assert np.abs(flat(processed.released) - ((before - share * (before + update)) / (1 - share))).max() < 1e-6


def test_pga_stays_in_its_ball_and_counts_how_often_it_had_to(tmp_path: Path) -> None:
    bench = _bench(tmp_path, plan=WHOLE)
    [start] = bench.serve(Pga(learning_rate=1e-9, epochs=1, rounds=0), [_leave(bench)])
    far = Pga(learning_rate=50.0, epochs=4, stop_accuracy=0.0, rounds=0)
    [walked] = bench.but(arm="far").serve(far, [_leave(bench)])
    assert walked.notes == {"steps": 4, "projections": 4, "radius": start.notes["radius"]}
    assert np.linalg.norm(flat(walked.released) - flat(start.released)) == pytest.approx(walked.notes["radius"], 1e-4)
    inits = [flat(model_of(SOFTMAX).init(np.random.default_rng(i))) for i in range(200)]
    mean = np.mean([np.linalg.norm(init - flat(start.released)) for init in inits])
    assert walked.notes["radius"] == pytest.approx(mean / 3, rel=0.05)
    [near] = bench.but(arm="near").serve(Pga(epochs=3, stop_accuracy=0.0, rounds=0), [_leave(bench)])
    assert (near.notes["steps"], near.notes["projections"]) == (3, 0)


def test_a_pga_pass_reads_each_record_once_in_minibatches(tmp_path: Path) -> None:
    """Of tiny steps without momentum, a pass adds up the minibatches' mean gradients: nearly steps times the mean."""
    batch = 10
    bench = _bench(tmp_path, plan=FEDAVG.model_copy(update={"recipe": Recipe(batch_size=batch, learning_rate=0.1)}))
    size = int(bench.population.sizes[LEAVER])
    batches = -(-size // batch)
    assert batches > 1
    assert size % batch  # the last minibatch is a smaller one, and its records count for more
    tiny = {"learning_rate": 1e-3, "momentum": 0.0, "clip": 1e9, "stop_accuracy": 0.0, "rounds": 0}
    start, once, twice = (
        bench.but(arm=f"{rate}-{epochs}").serve(
            Pga(**tiny | {"learning_rate": rate, "epochs": epochs}), [_leave(bench)]
        )[0]
        for rate, epochs in ((1e-9, 1), (1e-3, 1), (1e-3, 2))
    )
    assert (once.notes["steps"], twice.notes["steps"]) == (batches, 2 * batches)
    mean = _gradients(bench, start.released)[LEAVER]
    moved = flat(once.released) - flat(start.released)
    assert np.linalg.norm(moved - 1e-3 * batches * mean) < 0.25 * np.linalg.norm(moved)
    assert np.linalg.norm(moved - 1e-3 * mean) > 0.5 * np.linalg.norm(moved)


def test_pga_gathers_momentum(tmp_path: Path) -> None:
    """Two steps of a loss that is nearly linear so close by are as long as 1 + 1.9 of one."""
    bench = _bench(tmp_path, plan=WHOLE)
    start, one, two = (
        bench.but(arm=f"{rate}-{epochs}").serve(
            Pga(learning_rate=rate, epochs=epochs, stop_accuracy=0.0, rounds=0), [_leave(bench)]
        )[0]
        for rate, epochs in ((1e-9, 1), (1e-3, 1), (1e-3, 2))
    )
    first = flat(one.released) - flat(start.released)
    assert np.abs(flat(two.released) - flat(start.released) - 2.9 * first).max() < 0.02 * np.abs(first).max()


def test_pga_stops_where_the_leaver_is_forgotten(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    request, size = _leave(bench), int(bench.population.sizes[LEAVER])
    batches = -(-size // bench.plan.recipe.batch_size)
    [at_once] = bench.serve(Pga(stop_accuracy=1.0, learning_rate=0.1, rounds=0), [request])
    assert at_once.notes["steps"] == batches
    [processed] = bench.but(arm="walk").serve(Pga(epochs=100, learning_rate=0.1, rounds=0), [request])
    assert 0 < processed.notes["steps"] < 100 * batches
    rows = bench.population.rows(LEAVER)
    answers = model_of(SOFTMAX).predict(processed.released, bench.population.train_x[rows]).argmax(1)
    assert (answers == bench.population.train_y[rows]).mean() < 0.12


def test_the_orthogonal_part_is_orthogonal_and_the_rest_is_in_the_span() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4, 20))
    rows = np.vstack([rows, rows[0] + rows[1], 1e-3 * rows[2], np.zeros(20)])  # dependent, short and empty ones
    vector = rng.standard_normal(20)
    left = orthogonal_part(vector, rows)
    assert np.abs(rows @ left).max() < 1e-12
    assert np.abs(np.linalg.lstsq(rows.T, vector - left, rcond=None)[0] @ rows - (vector - left)).max() < 1e-12
    assert 0.1 < np.linalg.norm(left) < np.linalg.norm(vector)


def test_the_unlearning_loss_has_its_gradient(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    model, params = model_of(SOFTMAX), bench.history().record.releases[-1].params
    forget = _leave(bench).forget
    block = Block(0, 1, (LEAVER,), forget)
    [answer] = bench.federation().ask(Gradient(SOFTMAX, [block], [params], of="forgotten", loss="unlearning"))
    leaves = {name: value.requires_grad_() for name, value in model.tensors(params).items()}
    rows = bench.population.rows(LEAVER)
    x, y = (torch.tensor(values[rows]) for values in (bench.population.train_x, bench.population.train_y))
    p = torch.softmax(model.scores(leaves, x), -1)[torch.arange(len(y)), y]
    loss = -torch.log(1 - p / 2).sum()
    loss.backward()
    assert answer.metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, leaf in leaves.items():
        assert np.abs(answer.sums[name] - leaf.grad.numpy()).max() < 1e-4


def test_a_fedosd_step_costs_no_client_of_its_cohort(tmp_path: Path) -> None:
    bench = _bench(tmp_path, plan=FULL_BATCH)
    [processed] = bench.serve(FedOsd(learning_rate=1.0, steps=1, rounds=0), [_leave(bench)])
    step = flat(processed.released) - flat(processed.case.before)
    gradients = _gradients(bench, processed.case.before)
    cosines = gradients @ step / np.linalg.norm(step) / np.linalg.norm(gradients, axis=1)
    assert np.abs(np.delete(cosines, LEAVER)).max() < 1e-3
    assert cosines[LEAVER] > 0.05  # along its gradient its loss goes up
    assert 0.0 < processed.notes["share_left"] < 1.0
    block = Block(0, 1, (LEAVER,), _leave(bench).forget)
    asked = bench.but(arm="asking").federation()
    [wanted] = asked.ask(Gradient(SOFTMAX, [block], [processed.case.before], of="forgotten", loss="unlearning"))
    assert np.linalg.norm(step) == pytest.approx(np.linalg.norm(flat(wanted.sums)) / wanted.weight, rel=1e-4)


def test_fedosd_recovers_without_walking_back(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [processed] = bench.serve(FedOsd(learning_rate=0.05, steps=5, rounds=3), [_leave(bench)])
    releases = [release for release in bench.broadcast if release.branch == 1]
    assert [release.phase for release in releases] == ["unlearning", "recovery", "recovery", "recovery"]
    origin, path = flat(processed.case.before), [flat(release.params) for release in releases]
    for here, there in pairwise(path):
        away, step = here - origin, there - here
        assert np.linalg.norm(step) > 1e-3
        assert abs(away @ step) < 1e-4 * np.linalg.norm(away) * np.linalg.norm(step)


@pytest.mark.parametrize("kind", ["softmax", "svm", "ridge"])
def test_hessian_products_are_those_of_the_whole_hessian(tmp_path: Path, kind: str) -> None:
    spec = SOFTMAX.model_copy(update={"kind": kind, "dtype": "float64"})
    bench, model, rng = _bench(tmp_path, spec=spec), model_of(spec), np.random.default_rng(0)
    params, vector = model.init(rng), model.init(rng)
    forget = {2: (0,), 5: (1, 3)}
    blocks = [Block(0, 1, (2, 4), {2: (0,)}), Block(0, 1, (5,), {5: (1, 3)})]
    answers = bench.federation().ask(Hessian(spec, blocks, [params], [vector]))
    rows = np.concatenate([np.delete(bench.population.rows(c), forget.get(c, ())) for c in (2, 4, 5)])
    x = torch.from_numpy(bench.population.train_x[rows]).double()
    y = torch.from_numpy(bench.population.train_y[rows])

    def objective(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return model.losses(x @ weight.T + bias, y).sum()

    tensors = (torch.from_numpy(params["weight"]), torch.from_numpy(params["bias"]))
    direction = (torch.from_numpy(vector["weight"]), torch.from_numpy(vector["bias"]))
    _, expected = torch.autograd.functional.vhp(objective, tensors, direction)
    for name, value in zip(("weight", "bias"), expected, strict=True):
        assert np.abs(sum(answer.sums[name] for answer in answers) - value.numpy()).max() < 1e-9
