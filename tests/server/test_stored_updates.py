"""Methods that read the stored updates of single clients, each against what it must equal."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palimpsest.server.blocks import weighted_mean
from palimpsest.server.unlearning.distil import Distil
from palimpsest.server.unlearning.federaser import FedEraser
from palimpsest.server.unlearning.fedrecovery import FedRecovery
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.server.unlearning.sifu import Sifu
from palimpsest.server.updates import UpdateStore
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, SOFTMAX, Bench
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.privacy.gaussian import gaussian_sigma
from palimpsest.simulator.world.protocols.transcript import digest_of
from palimpsest.simulator.world.records import DeletionRequest

ONE_ROUND = FEDAVG.model_copy(update={"rounds": 1, "clients_per_round": 0})
LEAVER = 3


def _bench(directory: Path, **settings: Any) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, **settings)


def _leaves(bench: Bench, client: int = LEAVER) -> DeletionRequest:
    return DeletionRequest(0, bench.plan.rounds, "client", {client: tuple(range(int(bench.population.sizes[client])))})


def _idle(bench: Bench) -> int:
    kept = bench.history(updates=True).record.updates
    assert kept is not None
    seen = {client for round in kept.rounds for client in kept.read(round)[0]}
    return next(client for client in range(bench.population.clients) if client not in seen)


def test_keeping_updates_changes_no_bit_and_they_add_up_to_the_training(tmp_path: Path) -> None:
    plain = _bench(tmp_path / "plain").history().record
    kept = _bench(tmp_path / "kept").history(updates=True).record
    assert digest_of(r.params for r in plain.releases) == digest_of(r.params for r in kept.releases)
    assert kept.updates is not None
    assert list(kept.updates.rounds) == list(range(FEDAVG.rounds))
    for round in kept.updates.rounds:
        clients, rows = kept.updates.read(round)
        assert isinstance(rows, np.memmap)
        step = weighted_mean(zip(clients, rows, strict=True), kept.sizes)
        moved = flat(kept.released(round + 1)) - flat(kept.released(round))
        assert np.abs(step - moved).max() < 1e-6
    stored = FEDAVG.rounds * FEDAVG.clients_per_round * model_of(SOFTMAX).bytes
    assert stored < kept.stored_for({"client updates"}) < 1.1 * stored + 1000
    assert plain.stored_for({"client updates"}) == kept.stored_for(()) == 0


@pytest.mark.parametrize("kind", ["softmax", "mlp"])
def test_federaser_with_nobody_forgotten_reproduces_the_training(tmp_path: Path, kind: str) -> None:
    plan = FEDAVG.model_copy(update={"clients_per_round": 3})
    bench = _bench(tmp_path, plan=plan, spec=SOFTMAX.model_copy(update={"kind": kind}))
    request = _leaves(bench, _idle(bench))
    [same] = bench.serve(FedEraser(interval=1, ratio=1.0), [request])
    assert np.abs(flat(same.released) - flat(same.case.before)).max() < 1e-6
    [other] = bench.serve(FedEraser(interval=1, ratio=0.5), [request])
    assert np.abs(flat(other.released) - flat(other.case.before)).max() > 1e-4  # else the test above shows nothing


def test_federaser_steps_as_far_as_the_update_of_the_same_round(tmp_path: Path) -> None:
    """With one client a round the step is that client's, at the length of what it sent in that round."""
    plan = FEDAVG.model_copy(update={"clients_per_round": 1, "rounds": 6})
    bench = _bench(tmp_path, plan=plan)
    history = bench.history(updates=True)
    assert history.record.updates is not None
    drawn = [history.record.updates.read(round)[0][0] for round in range(6)]
    bench.serve(FedEraser(interval=2), [_leaves(bench, drawn[2])])
    path = [flat(release.params) for release in bench.broadcast if release.branch == 1]
    path.insert(0, flat(history.record.released(0)))
    lengths = [float(np.linalg.norm(history.record.updates.read(round)[1][0])) for round in (0, 2, 4)]
    expected = [0.0 if drawn[round] == drawn[2] else length for round, length in zip((0, 2, 4), lengths, strict=True)]
    steps = [float(np.linalg.norm(b - a)) for a, b in pairwise(path)]
    assert steps == pytest.approx(expected, rel=1e-4)
    assert expected[1] == 0.0
    assert len(set(lengths)) == 3


def test_fedrecovery_after_one_round_is_retraining(tmp_path: Path) -> None:
    """One round has one residual, of weight 1, and taking it out leaves the mean of the others."""
    bench = _bench(tmp_path / "a", plan=ONE_ROUND)
    [recovered] = bench.serve(FedRecovery(), [_leaves(bench)])
    [retrained] = _bench(tmp_path / "b", plan=ONE_ROUND).serve(Retrain(coupling="same-order"), [_leaves(bench)])
    assert np.abs(flat(recovered.released) - flat(retrained.released)).max() < 1e-6
    assert np.abs(flat(recovered.released) - flat(recovered.case.before)).max() > 1e-4


def test_fedrecovery_weighs_rounds_by_their_squared_residuals(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [processed] = bench.serve(FedRecovery(), [_leaves(bench)])
    kept = bench.history(updates=True).record.updates
    assert kept is not None
    residuals = []
    for clients, rows in map(kept.read, kept.rounds):
        sizes = bench.population.sizes[list(clients)].astype(float)
        stay = np.array([client != LEAVER for client in clients])
        residuals.append(np.average(rows, 0, sizes) - np.average(rows[stay], 0, sizes[stay]))
    squares = np.array([(r**2).sum() for r in residuals])
    assert (squares > 0).sum() > 1
    step = flat(processed.case.before) - flat(processed.released)
    assert np.abs(step - np.average(residuals, 0, squares)).max() < 1e-6


def test_fedrecovery_adds_noise_of_the_deviation_that_its_promise_takes(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    [plain] = bench.serve(FedRecovery(), [_leaves(bench)])
    [noisy] = bench.serve(FedRecovery(epsilon=2.0, sensitivity=0.5), [_leaves(bench)])
    noise = flat(noisy.released) - flat(plain.released)
    sigma = gaussian_sigma(2.0, 1e-5, 0.5)
    assert noisy.notes["sigma"] == sigma
    # The standard error of a deviation of 650 draws is sigma / sqrt(2 * 650); five of them.
    assert abs(noise.std() - sigma) < 5 * sigma / np.sqrt(2 * len(noise))


def test_distil_subtracts_the_leavers_share(tmp_path: Path) -> None:
    """After one round theta' - theta_0 is the others' mean, scaled down to their share of the records."""
    bench = _bench(tmp_path / "a", plan=ONE_ROUND)
    [distilled] = bench.serve(Distil(epochs=0), [_leaves(bench)])
    [retrained] = _bench(tmp_path / "b", plan=ONE_ROUND).serve(Retrain(coupling="same-order"), [_leaves(bench)])
    start, sizes = flat(bench.broadcast[0].params), bench.population.sizes
    share = 1.0 - sizes[LEAVER] / sizes.sum()
    assert np.abs((flat(distilled.released) - start) - share * (flat(retrained.released) - start)).max() < 1e-6


def test_distillation_brings_the_answers_back(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    public, model = bench.population.public_x, model_of(SOFTMAX)
    gaps = []
    for epochs in (0, 30):
        [processed] = bench.serve(Distil(epochs=epochs), [_leaves(bench)])
        pair = [model.predict(params, public) for params in (processed.case.before, processed.released)]
        old, new = (torch.log_softmax(torch.from_numpy(scores), -1) for scores in pair)
        gaps.append(float((old.exp() * (old - new)).sum(-1).mean()))
    assert gaps[1] < gaps[0] / 2


def test_methods_with_nothing_to_subtract_change_nothing(tmp_path: Path) -> None:
    bench = _bench(tmp_path, plan=FEDAVG.model_copy(update={"clients_per_round": 3}))
    request = _leaves(bench, _idle(bench))
    for unlearner in (FedRecovery(epsilon=1.0), Distil(epochs=0)):
        [processed] = bench.serve(unlearner, [request])
        assert np.array_equal(flat(processed.released), flat(processed.case.before))


@pytest.mark.parametrize("unlearner", [FedEraser(), FedRecovery(), Distil(), Sifu()])
def test_rounds_without_anybody_leave_no_trace_in_the_history(tmp_path: Path, unlearner: Any) -> None:
    """Poisson sampling of one client in thirty: of 12 clients most rounds have nobody."""
    plan = FEDAVG.model_copy(update={"clients_per_round": 0, "sampling_rate": 1 / 30, "rounds": 8})
    bench = _bench(tmp_path, plan=plan)
    kept = bench.history(updates=True, drifts=True).record.updates
    assert kept is not None
    cohorts = [kept.read(round)[0] for round in kept.rounds]
    assert any(cohorts)
    assert not all(cohorts)
    leaver = next(clients[0] for clients in cohorts if clients)
    [processed] = bench.serve(unlearner, [_leaves(bench, leaver)])
    assert np.isfinite(flat(processed.released)).all()
    assert not np.array_equal(flat(processed.released), flat(processed.case.before))


def test_several_cases_at_once_are_each_as_alone(tmp_path: Path) -> None:
    """Requests that arrive at different rounds of training, on branches of one call."""
    bench = _bench(tmp_path)
    sizes = bench.population.sizes
    requests = [
        DeletionRequest(i, round, "client", {client: tuple(range(int(sizes[client])))})
        for i, (round, client) in enumerate([(2, 1), (4, LEAVER), (3, 5)])
    ]
    together = bench.serve(FedEraser(interval=1), requests)
    for i, request in enumerate(requests):
        [alone] = bench.serve(FedEraser(interval=1), [request])
        assert np.array_equal(flat(alone.released), flat(together[i].released))
        assert bench.broadcast[alone.after].round == request.round


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compressed_updates_come_back_bit_for_bit_and_take_less(dtype: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rounds = [{client: (0.01 * rng.normal(size=3000)).astype(dtype) for client in (4, 2, 9)}, {}]
    rounds[0][4][:5] = [np.nan, -0.0, np.inf, -np.inf, np.finfo(dtype).smallest_subnormal]
    plain, small = UpdateStore(tmp_path / "plain"), UpdateStore(tmp_path / "small", compressed=True)
    for updates in rounds:
        plain.keep(updates)
        small.keep(updates)
    for round, updates in enumerate(rounds):
        clients, rows = small.read(round)
        assert clients == plain.read(round)[0] == tuple(updates)
        assert rows.dtype == plain.read(round)[1].dtype
        assert rows.tobytes() == plain.read(round)[1].tobytes()
        assert rows.shape == plain.read(round)[1].shape
    assert small.bytes < 0.93 * plain.bytes
