"""The federation on its grids: the same bits for any number of hosts, on Ray and serial, and after a host's death."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray import remote, wait
from ray.experimental import get_object_locations

from palimpsest.server.blocks import everyone
from palimpsest.server.setup import Lineage, TrainingPlan
from palimpsest.server.unlearning.federaser import FedEraser
from palimpsest.server.unlearning.fedosd import FedOsd
from palimpsest.server.unlearning.newton import Newton
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.simulator.federation.cluster import INLINE_BYTES, ray_session
from palimpsest.simulator.federation.federation import FederationError
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.federation.ray_grid import RayGrid
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, RIDGE, SOFTMAX, Bench, record_requests
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.records import DeletionRequest
from palimpsest.simulator.world.specs import Recipe
from tests.support.hosts import hosts_titled

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    """One Ray for all tests of this file."""
    with ray_session(hosts=6):
        yield


@pytest.fixture(scope="module")
def two(ray: None) -> Iterator[RayGrid]:
    """Two hosts for several tests, each of which has an arm of its own: hosts remember what an arm has deleted."""
    grid = RayGrid(2)
    yield grid
    grid.close()


def _bench(directory: Path, **settings: object) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, **settings)


def _digest(bench: Bench) -> str:
    bench.serve(Retrain(coupling="independent"), record_requests(bench.population, 3, bench.plan.rounds))
    return bench.digest()


def test_a_small_round_does_not_go_through_the_object_store() -> None:
    made = remote(lambda size: bytes(size))
    for size, stored in ((INLINE_BYTES // 2, False), (2 * INLINE_BYTES, True)):
        answer = made.remote(size)
        wait([answer])
        assert bool(get_object_locations([answer])[answer]["node_ids"]) == stored


def test_any_number_of_hosts_on_ray_and_serial_gives_one_digest(tmp_path: Path, two: RayGrid) -> None:
    digests = {f"serial {hosts}": _digest(_bench(tmp_path, grid=SerialGrid(hosts))) for hosts in (1, 3)}
    digests["ray 2"] = _digest(_bench(tmp_path, grid=two, arm="any number"))
    for hosts in (1, 3):
        grid = RayGrid(hosts)
        digests[f"ray {hosts}"] = _digest(_bench(tmp_path, grid=grid))
        grid.close()
    assert len(set(digests.values())) == 1, digests


def test_hosts_on_ray_compute_at_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    network = SOFTMAX.model_copy(update={"kind": "vit-tiny"})
    about = {"spec": network, "plan": FEDAVG.model_copy(update={"rounds": 1}), "precision": "bfloat16"}
    grid = RayGrid(2)
    digests = [_digest(_bench(tmp_path, grid=where, **about)) for where in (SerialGrid(1), grid)]
    grid.close()
    assert digests[0] == digests[1] != _digest(_bench(tmp_path, **about | {"precision": "highest"}))


def test_the_digest_depends_on_seed_and_block_size(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    same, other_seed = _digest(_bench(tmp_path)), _digest(_bench(tmp_path, seed=1))
    assert same == _digest(_bench(tmp_path))
    assert same != other_seed


def test_a_host_killed_during_a_round_changes_no_bit(tmp_path: Path, two: RayGrid) -> None:
    plan = FEDAVG.model_copy(update={"recipe": Recipe(batch_size=2, learning_rate=0.05, local_epochs=5)})
    expected = _digest(_bench(tmp_path, plan=plan))
    two.await_hosts()  # who looks for a host at work before that keeps a core busy with looking
    before = two.replaced
    bench = _bench(tmp_path, plan=plan, grid=two, arm="killed")
    killed: list[int] = []
    killer = threading.Thread(target=_kill_a_working_host, args=(killed,))
    killer.start()
    digest = _digest(bench)
    killer.join()
    assert killed, "no host was seen at work"
    assert two.replaced == before + 1
    assert digest == expected


def test_a_replaced_host_still_refuses_what_was_deleted(tmp_path: Path) -> None:
    """Tombstones live in the host that died; its successor is told before it serves."""
    others = hosts_titled("ray::RayHost")
    grid = RayGrid(1)
    bench = _bench(tmp_path, grid=grid)
    [request] = record_requests(bench.population, 1, FEDAVG.rounds)
    bench.serve(Retrain(), [request])
    [process] = set(hosts_titled("ray::RayHost")) - set(others)
    os.kill(process, signal.SIGKILL)
    history = bench.history()  # the trunk reads everything, on branch 0: allowed
    assert grid.replaced == 1
    blocks = everyone(history.record.setup, [Lineage(branch=request.index + 1, forget={})])
    with pytest.raises(FederationError, match="has deleted its records"):
        history.retrainer.federation.ask(Gradient(bench.spec, blocks, [history.record.releases[-1].params]))
    grid.close()


def _kill_a_working_host(killed: list[int]) -> None:
    """Wait until some host is inside a call, some rounds in, and kill it as the kernel would."""
    deadline = time.monotonic() + 60
    seen = 0
    while time.monotonic() < deadline and not killed:
        for process in hosts_titled("ray::RayHost.handle"):
            seen += 1
            if seen == 3:
                os.kill(process, signal.SIGKILL)
                killed.append(process)
        time.sleep(0.002)


def test_what_methods_ask_of_single_clients_is_the_same_on_ray_and_serial(tmp_path: Path, two: RayGrid) -> None:
    """Updates of single clients, gradients of the unlearning loss, and Hessian-vector products."""
    perturbed = TrainingPlan(algorithm="closed-form", perturbation=0.1)
    for unlearner, settings in ((FedEraser(), {}), (FedOsd(), {}), (Newton(), {"plan": perturbed, "spec": RIDGE})):
        serial, ray = (
            _bench(tmp_path / unlearner.method / name, grid=place, arm=unlearner.method, **settings)
            for name, place in (("serial", SerialGrid(1)), ("ray", two))
        )
        forget = {3: tuple(range(int(serial.population.sizes[3])))}
        for bench in (serial, ray):
            bench.serve(unlearner, [DeletionRequest(0, bench.plan.rounds, "client", forget)])
        assert serial.digest() == ray.digest(), unlearner.method
