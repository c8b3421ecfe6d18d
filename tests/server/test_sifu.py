"""SIFU: its bound against the distance that it bounds, its noise, and what it restores."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.server.setup import Lineage
from palimpsest.server.training import train
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.server.unlearning.sifu import Sifu, drift_bounds
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, Bench
from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.privacy.gaussian import gaussian_delta
from palimpsest.simulator.world.protocols.unlearning import Outcome, UnlearningCase
from palimpsest.simulator.world.records import DeletionRequest, Forget, Params
from palimpsest.simulator.world.specs import Recipe


class Watched(Sifu):
    """Says by how much its clients may have moved the models that it may go back to."""

    seen: ClassVar[list[list[float]]] = []

    def unlearn(self, history: Any, cases: Any, federation: Any) -> Iterator[Outcome]:
        self.seen.extend(drift_bounds(history, case) for case in cases)
        yield from super().unlearn(history, cases, federation)


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
        kept = zip(history.record.releases, without, strict=True)
        distances.append([float(np.linalg.norm(flat(one.params) - flat(other))) for one, other in kept])
        case = UnlearningCase(
            request.index + 1, request, request.forget, GENTLE.rounds, history.record.releases[-1].params
        )
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
    assert history.record.drifts is not None
    used = [client for client in range(12) if all(client in history.record.drifts[round].shares for round in (0, 2))]
    request = _leave(0, used[0])
    case = UnlearningCase(1, request, request.forget, GENTLE.rounds, history.record.releases[-1].params)
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
    noise = flat(branch[0].params) - flat(history.record.released(2))
    # The standard error of a deviation of 650 draws is sigma / sqrt(2 * 650); five of them.
    assert abs(noise.std() - sifu.sigma) < 5 * sifu.sigma / np.sqrt(2 * len(noise))


def test_it_goes_back_to_the_start_where_nothing_can_be_hidden(tmp_path: Path) -> None:
    """Then it is retraining in the same order, without noise."""
    bench = _bench(tmp_path / "a")
    history = bench.history(drifts=True)
    request = _leave(0, *(history.record.drifts or [])[0].shares)
    [processed] = bench.serve(Sifu(sigma=1e-9), [request])
    [retrained] = _bench(tmp_path / "b").serve(Retrain(coupling="same-order"), [request])
    assert processed.notes["restored_round"] == 0
    assert np.array_equal(flat(processed.released), flat(retrained.released))


def test_a_client_that_never_took_part_changes_nothing(tmp_path: Path) -> None:
    plan = GENTLE.model_copy(update={"clients_per_round": 2, "rounds": 2})
    bench = Bench(digits_population(), tmp_path, plan=plan)
    seen = {client for of in bench.history(drifts=True).record.drifts or [] for client in of.shares}
    idle = next(client for client in range(12) if client not in seen)
    request = DeletionRequest(0, 2, "client", _leave(0, idle).forget)
    [processed] = bench.serve(Sifu(), [request])
    assert np.array_equal(flat(processed.released), flat(processed.case.before))


@pytest.mark.parametrize("turn", [1, -1])
def test_a_chain_without_noise_is_a_chain_of_retrainings(tmp_path: Path, turn: int) -> None:
    """Whoever of the two took part first: the second request goes back before or after what the first restored."""
    plan = GENTLE.model_copy(update={"clients_per_round": 2})
    bench = Bench(digits_population(), tmp_path, plan=plan)
    shares = [of.shares for of in bench.history(drifts=True).record.drifts or []]
    early = next(iter(shares[1]))
    late = next(client for client in shares[4] if all(client not in of for of in shares[:4]))
    chain = [_leave(i, client) for i, client in enumerate((early, late)[::turn])]
    first, second = bench.serve(Sifu(sigma=1e-9), chain, sequential=True)
    used = [next(t for t, of in enumerate(shares) if client in of) for client in (early, late)]
    assert [first.notes["restored_round"], second.notes["restored_round"]] == used[::turn]
    assert used[0] < used[1] == 4
    together = DeletionRequest(0, GENTLE.rounds, "client", chain[0].forget | chain[1].forget)
    [retrained] = bench.but(arm="again").serve(Retrain(coupling="same-order"), [together])
    assert np.abs(flat(second.released) - flat(retrained.released)).max() < 1e-5


def test_a_chain_counts_what_its_noise_does_not_hide(tmp_path: Path) -> None:
    """Before what the first request restored both its client and the second's count, from there on the second's."""
    bench = _bench(tmp_path)
    history = bench.history(drifts=True)
    assert history.record.drifts is not None
    drifts = history.record.drifts
    one, two = [client for client in range(12) if all(client in drifts[round].shares for round in (0, 2))][:2]
    requests = [replace(_leave(0, one), round=4), _leave(1, two)]
    alone = np.cumsum([drifts[t].because_of([one]) for t in range(3)])
    per_limit = Sifu(sigma=1.0)
    [probe] = bench.but(arm="probe").serve(per_limit, [_leave(0, one)])
    sifu = Watched(sigma=(alone[1] + alone[2]) / 2 / probe.notes["psi_limit"])
    Watched.seen.clear()
    first, _ = bench.serve(sifu, requests, sequential=True)
    assert first.notes["restored_round"] == 2
    bounds = Watched.seen[1]
    assert bounds[1] == pytest.approx(drifts[0].because_of([one, two]))
    assert bounds[2] == pytest.approx(sum(drifts[t].because_of([two]) for t in range(2)))
    # A world without the second client, in which the server drew the same noise.
    begins = next(i for i, release in enumerate(bench.broadcast) if release.phase == "unlearning")
    path = [flat(release.params) for release in bench.broadcast[begins : begins + 5]]
    assert [release.round for release in bench.broadcast[begins : begins + 5]] == [2, 3, 4, 5, 6]
    noise = path[0] - flat(history.record.released(2))
    start = flat(_trained(bench, requests[1].forget, last=2)[-1]) + noise
    others = requests[0].forget | requests[1].forget
    elsewhere = _trained(bench, others, start=unflat(start, history.record.released(2)), first=2)
    there = [start, *map(flat, elsewhere)]
    distances = [float(np.linalg.norm(here - other)) for here, other in zip(path, there, strict=True)]
    assert all(distance <= bound * (1 + 1e-5) + 1e-6 for distance, bound in zip(distances, bounds[2:], strict=True))
    assert min(distances) > 0.1 * max(bounds[2:])


def _trained(bench: Bench, gone: Forget, start: Params | None = None, first: int = 0, last: int = 6) -> list[Params]:
    """Models of an ordinary training in the trunk's streams, by clients that have deleted nothing."""
    lineage, other = Lineage(0, gone, first=first, last=last), bench.but(arm="oracle")
    steps = train(other.history().record.setup, [lineage], other.federation(), None if start is None else [start])
    return [step.models[0] for step in steps]
