"""How exactly hosts compute: in every process that trains, for as long as it does, and with bits of its own."""

import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from palimpsest.clients.host import Host
from palimpsest.clients.reader import Reader
from palimpsest.clients.tombstones import Tombstones
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.results.seals import scenario_digest
from palimpsest.simulator.scenario.load import Scenario, dump_toml, scenario_from_dict
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, SOFTMAX, Bench, record_requests
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.models.precision import multiplying
from palimpsest.simulator.world.models.training import Slot, fit
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.specs import FeatureSpec, ModelSpec, Precision, Recipe

MLP = SOFTMAX.model_copy(update={"kind": "mlp"})
NETWORK = SOFTMAX.model_copy(update={"kind": "vit-tiny"})
BFLOAT16 = 2.0**-8
"""Relative rounding of a number in bfloat16."""


@pytest.fixture
def altered() -> Iterator[None]:
    """A program that has set PyTorch's products to something of its own."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    yield
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16", "a run has changed what it was found in"
    torch.backends.mkldnn.matmul.fp32_precision = before


def _medium_has_other_kernels() -> bool:
    """Whether this CPU computes the products of the test's network in another way where it is allowed to round."""
    model, x = model_of(MLP), torch.rand(20, 64)
    params = {name: torch.from_numpy(value) for name, value in model.init(np.random.default_rng(0)).items()}
    scores = []
    for precision in ("highest", "medium"):
        with multiplying(precision):
            scores.append(model.scores(params, x))
    return not torch.equal(*scores)


def _places() -> list[str]:
    backends = torch.backends
    return [
        backends.mkldnn.matmul.fp32_precision,
        backends.mkldnn.conv.fp32_precision,
        backends.cuda.matmul.fp32_precision,
        backends.cudnn.conv.fp32_precision,
    ]


def _bench(directory: Path, spec: ModelSpec, precision: Precision, **settings: object) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    plan = FEDAVG.model_copy(update={"rounds": 2})
    return Bench(digits_population(), directory, spec, plan, precision=precision, **settings)


def _digest(bench: Bench) -> str:
    bench.serve(Retrain(coupling="independent"), record_requests(bench.population, 2, bench.plan.rounds))
    return bench.digest()


def test_products_are_set_while_a_host_answers_and_put_back() -> None:
    before = _places()
    with multiplying("medium"):
        assert _places() == ["bf16", "bf16", "tf32", "tf32"]
        with multiplying("highest"):
            assert _places() == ["ieee"] * 4
        assert _places() == ["bf16", "bf16", "tf32", "tf32"]
    assert _places() == before
    with pytest.raises(ZeroDivisionError), multiplying("medium"):
        1 / 0  # noqa: B018
    assert _places() == before


def test_medium_reaches_every_training_and_has_digests_of_its_own(tmp_path: Path) -> None:
    before = _places()
    full, medium = (_digest(_bench(tmp_path, MLP, precision)) for precision in ("highest", "medium"))
    assert (full != medium) == _medium_has_other_kernels()
    assert _places() == before
    assert full == _digest(_bench(tmp_path, MLP, "highest")), "one run's precision has come into the next"


def test_what_a_program_has_set_comes_into_no_run(tmp_path: Path, altered: None) -> None:
    inside = _digest(_bench(tmp_path, MLP, "highest"))
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"
    outside = _digest(_bench(tmp_path, MLP, "highest"))
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    assert inside == outside


def test_bfloat16_gives_one_digest_for_any_number_of_hosts_and_another_than_float32(tmp_path: Path) -> None:
    digests = [_digest(_bench(tmp_path, NETWORK, "bfloat16", grid=SerialGrid(hosts))) for hosts in (1, 3)]
    assert digests[0] == digests[1]
    assert digests[0] != _digest(_bench(tmp_path, NETWORK, "highest"))


def _scenario(precision: str) -> Scenario:
    return scenario_from_dict(
        {
            "name": "precision",
            "data": {"source": "digits", "clients": 4},
            "model": {"kind": "mlp"},
            "training": {"rounds": 1, "clients_per_round": 2},
            "deletion": {"requests": 1},
            "unlearning": [{"method": "ascent"}],
            "attack": [{"kind": "average"}],
            "runtime": {"precision": precision},
        }
    )


def test_a_run_says_its_precision_and_takes_it_to_hosts_that_do_whole_arms(tmp_path: Path) -> None:
    results = {}
    for precision in ("highest", "medium"):
        (tmp_path / precision).mkdir()
        scenario = _scenario(precision)
        [prepared] = prepare(scenario)
        opened, what = prepared.__reduce__()  # how a message to a host holds it
        assert opened(*what).precision == precision
        results[precision] = simulate(scenario, [prepared], tmp_path / precision, SerialGrid(1))
    assert results["medium"]["machine"]["precision"] == "medium"
    assert "precision" not in results["highest"]["machine"]
    digests = [found["arms"][0]["transcript_digest"] for found in results.values()]
    assert (digests[0] != digests[1]) == _medium_has_other_kernels()


def test_a_run_cannot_be_gone_on_with_at_another_precision() -> None:
    """What is begun and what is resumed are compared by this digest."""
    contents = [tomllib.loads(dump_toml(_scenario(precision))) for precision in ("highest", "medium")]
    assert scenario_digest(contents[0]) != scenario_digest(contents[1])


def _gradient(host: Host, spec: ModelSpec, params: Params) -> dict[str, np.ndarray]:
    [result] = host.ask(Gradient(spec, [Block(0, 0, tuple(range(12)), {})], [params]))
    return dict(result.sums)


def _host(precision: Precision, reader: Reader) -> Host:
    return Host(reader, 0, "arm", Tombstones(), precision=precision)


def test_a_gradient_in_bfloat16_is_near_the_one_in_float32_and_no_nearer() -> None:
    reader, params = Reader(digits_population()), model_of(NETWORK).init(np.random.default_rng(0))
    full, rounded = (_gradient(_host(precision, reader), NETWORK, params) for precision in ("highest", "bfloat16"))
    vectors = [np.concatenate([value.ravel() for value in sums.values()]) for sums in (full, rounded)]
    apart = np.linalg.norm(vectors[0] - vectors[1]) / np.linalg.norm(vectors[0])
    assert BFLOAT16 / 16 < apart < 16 * BFLOAT16


def test_features_that_a_reader_keeps_are_of_one_precision() -> None:
    features = FeatureSpec(dimension=256, bandwidth=2.0, seed=0)
    spec, reader = SOFTMAX.model_copy(update={"features": features}), Reader(digits_population())
    params = model_of(spec).init(np.random.default_rng(0))
    _gradient(_host("medium", reader), spec, params)
    before = set(reader._cache)
    _gradient(_host("highest", reader), spec, params)
    assert before and set(reader._cache) > before, "what was read at one precision is not given at another"


def test_threads_at_two_precisions_take_turns_and_leave_what_was_there() -> None:
    """Settings are of the process: neither may compute at the other's, and nothing may stay."""
    place, seen = torch.backends.mkldnn.matmul, []
    before, inside, done = place.fp32_precision, threading.Event(), threading.Event()

    def other() -> None:
        inside.wait()
        with multiplying("highest"):
            seen.append(place.fp32_precision)
        done.set()

    waiting = threading.Thread(target=other)
    waiting.start()
    with multiplying("medium"), multiplying("medium"):
        inside.set()
        assert not done.wait(0.2)
        seen.append(place.fp32_precision)
    waiting.join(10)
    assert seen == ["bf16", "ieee"]
    assert place.fp32_precision == before


@pytest.mark.parametrize("spec, precision", [(SOFTMAX, "medium"), (MLP, "medium"), (NETWORK, "bfloat16")])
def test_a_client_has_the_same_bits_in_any_company(spec: ModelSpec, precision: Precision) -> None:
    rng, model = np.random.default_rng(0), model_of(spec, "cpu", precision)
    x, y = torch.rand(200, 64), torch.from_numpy(rng.integers(0, 10, 200))
    starts = {name: torch.from_numpy(value[None]) for name, value in model.init(rng).items()}
    slots = [Slot(0, rng.permutation(200)[:20].reshape(2, 10)) for _ in range(20)]
    with multiplying(precision):
        together = fit(model, starts, slots, x, y, Recipe())
        for begin, end in ((0, 1), (3, 5), (2, 19)):
            part = fit(model, starts, slots[begin:end], x, y, Recipe())
            assert all(torch.equal(value, together[name][begin:end]) for name, value in part.items())
