"""SIFU: its bound against the distance that it bounds, its noise, and what it restores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.unlearning.retrain import Retrain
from server.unlearning.sifu import Sifu, drift_bounds
from simulator.world.gaussian import gaussian_delta
from simulator.world.models import flat
from simulator.world.protocols import UnlearningCase
from simulator.world.records import DeletionRequest
from simulator.world.specs import Recipe
from tests.federations import FEDAVG, Bench
from tests.populations import digits_population

# ||(x, 1)||^2 is at most 65, and a softmax's Hessian in its scores at most 1/2: the smoothness is at most 32.5 + l2.
GENTLE = FEDAVG.model_copy(
    update={"rounds": 6, "recipe": Recipe(batch_size=8, learning_rate=0.05, l2=0.01, local_epochs=2)}
)


def _bench(directory: Path, **settings: Any) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, plan=GENTLE, **settings)


def _leave(index: int, *clients: int) -> DeletionRequest:
    sizes = digits_population().sizes
    return DeletionRequest(index, GENTLE.rounds, "client", {c: tuple(range(int(sizes[c]))) for c in clients})


def _distances(directory: Path, requests: list[DeletionRequest]) -> tuple[list[list[float]], list[list[float]]]:
    """For each request, after every round: distance from the trunk to training without its clients, and the bound."""
    bench = _bench(directory)
    history = bench.history(drifts=True)
    bench.serve(Retrain(coupling="same-order"), requests)
    distances, bounds = [], []
    for request in requests:
        without = [release.params for release in bench.broadcast if release.branch == request.index + 1]
        kept = zip(history.releases, without, strict=True)
        distances.append([float(np.linalg.norm(flat(one.params) - flat(other))) for one, other in kept])
        case = UnlearningCase(request.index + 1, request, request.forget, GENTLE.rounds, history.releases[-1].params)
        bounds.append(drift_bounds(history, case))
    return distances, bounds


def test_one_round_drifts_by_exactly_the_bound(tmp_path: Path) -> None:
    distances, bounds = _distances(tmp_path, [_leave(client, client) for client in range(12)])
    first = [(of[t], bound[t]) for of, bound in zip(distances, bounds, strict=True) for t in (1,)]
    assert sum(distance > 1e-4 for distance, _ in first) == GENTLE.clients_per_round
    for distance, bound in first:
        assert distance == pytest.approx(bound, rel=1e-4, abs=1e-7)


def test_nobody_moves_a_convex_model_further_than_their_bound(tmp_path: Path) -> None:
    alone, pairs = [(client,) for client in range(12)], [(client, (5 * client + 1) % 12) for client in range(12)]
    distances, bounds = _distances(tmp_path, [_leave(i, *clients) for i, clients in enumerate(alone + pairs)])
    for of, bound in zip(distances, bounds, strict=True):
        assert all(distance <= limit * (1 + 1e-5) + 1e-6 for distance, limit in zip(of, bound, strict=True))
        assert bound == sorted(bound)


def test_it_restores_the_last_release_within_its_limit_and_hides_it(tmp_path: Path) -> None:
    """sigma is chosen such that the limit lies between the bounds after two rounds and after three."""
    bench = _bench(tmp_path)
    history = bench.history(drifts=True)
    assert history.drifts is not None
    used = [client for client in range(12) if all(client in history.drifts[round].shares for round in (0, 2))]
    request = _leave(0, used[0])
    case = UnlearningCase(1, request, request.forget, GENTLE.rounds, history.releases[-1].params)
    bounds = drift_bounds(history, case)
    unit = Sifu(sigma=1.0)
    [probe] = bench.serve(unit, [request])
    wanted = (bounds[2] + bounds[3]) / 2
    sifu = Sifu(sigma=wanted / probe.notes["psi_limit"])
    assert gaussian_delta(sifu.epsilon, sifu.sigma, wanted) == pytest.approx(sifu.delta, rel=1e-6)
    fresh = bench.but(arm="again")
    [processed] = fresh.serve(sifu, [request])
    assert processed.notes["restored_round"] == 2
    assert processed.notes["psi"] == pytest.approx(bounds[2])
    branch = [release for release in fresh.broadcast if release.branch == 1]
    assert [release.round for release in branch] == [2, 3, 4, 5, 6]
    noise = flat(branch[0].params) - flat(history.released(2))
    # The standard error of a deviation of 650 draws is sigma / sqrt(2 * 650); five of them.
    assert abs(noise.std() - sifu.sigma) < 5 * sifu.sigma / np.sqrt(2 * len(noise))


def test_it_goes_back_to_the_start_where_nothing_can_be_hidden(tmp_path: Path) -> None:
    """Then it is retraining in the same order, without noise."""
    bench = _bench(tmp_path / "a")
    history = bench.history(drifts=True)
    request = _leave(0, *(history.drifts or [])[0].shares)
    [processed] = bench.serve(Sifu(sigma=1e-9), [request])
    [retrained] = _bench(tmp_path / "b").serve(Retrain(coupling="same-order"), [request])
    assert processed.notes["restored_round"] == 0
    assert np.array_equal(flat(processed.released), flat(retrained.released))


def test_a_client_that_never_took_part_changes_nothing(tmp_path: Path) -> None:
    plan = GENTLE.model_copy(update={"clients_per_round": 2, "rounds": 2})
    bench = Bench(digits_population(), tmp_path, plan=plan)
    seen = {client for of in bench.history(drifts=True).drifts or [] for client in of.shares}
    idle = next(client for client in range(12) if client not in seen)
    request = DeletionRequest(0, 2, "client", _leave(0, idle).forget)
    [processed] = bench.serve(Sifu(), [request])
    assert np.array_equal(flat(processed.released), flat(processed.case.before))
