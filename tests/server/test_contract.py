"""What every unlearning method must be and do."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from palimpsest.server.setup import TrainingPlan
from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.scenario.registry import method_class
from palimpsest.simulator.world.models.kinds import suited, suits
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.records import DeletionRequest
from palimpsest.simulator.world.specs import ModelSpec
from tests.support.federations import FEDAVG, RIDGE, SOFTMAX, Bench
from tests.support.populations import digits_population, with_an_empty_client

CLOSED = TrainingPlan(algorithm="closed-form", perturbation=0.1)
CONVERGED = TrainingPlan(algorithm="lbfgs", gradient_norm=1e-8, perturbation=0.1)
FLOAT64 = SOFTMAX.model_copy(update={"dtype": "float64"})
PLACES: dict[str, tuple[TrainingPlan, ModelSpec]] = {
    "fedavg": (FEDAVG, SOFTMAX),
    "fedsgd": (FEDAVG.model_copy(update={"algorithm": "fedsgd"}), SOFTMAX),
    "lbfgs": (CONVERGED, FLOAT64),
    "closed-form": (CLOSED, RIDGE),
}
QUICK: dict[str, dict[str, Any]] = {"fedosd": {"steps": 5}}
"""Hyper-parameters that make a method shorter and change nothing of what it is."""
NO_CHAINS = {"client updates"}
PAIRS = [
    (name, algorithm, level)
    for name, card in CARDS.items()
    for algorithm in card.algorithms or tuple(PLACES)
    for level in card.levels
    if {PLACES[algorithm][1].kind, "mlp"}.intersection(suited(card))
]


def _place(name: str, algorithm: str = "") -> tuple[TrainingPlan, ModelSpec]:
    """A training that the method works on; the first that it names, where none is asked for."""
    plan, spec = PLACES[algorithm or (CARDS[name].algorithms or ("fedavg",))[0]]
    if not suits(CARDS[name], spec.kind):
        spec = spec.model_copy(update={"kind": suited(CARDS[name])[0]})
    return plan.model_copy(update={"shards": 3 if "shard checkpoints" in CARDS[name].needs else 1}), spec


def _requests(level: str, rounds: int) -> list[DeletionRequest]:
    """Two alternatives: one of a single client, one of two together."""
    population = digits_population()
    wanted: list[dict[int, Any]] = [{3: slice(None)}, {1: slice(None), 5: slice(None)}]
    if level == "record":
        wanted = [{3: slice(1)}, {1: slice(2), 5: slice(1)}]
    forget = [{c: tuple(range(int(population.sizes[c])))[part] for c, part in one.items()} for one in wanted]
    label = 0 if level == "label" else None
    return [DeletionRequest(i, rounds, level, one, label) for i, one in enumerate(forget)]


@pytest.mark.parametrize("name", CARDS)
def test_the_class_carries_the_card_of_its_name(name: str) -> None:
    cls = method_class("unlearning", name)
    made: Any = cls()
    assert made.method == name
    assert made.card is CARDS[name]
    assert made.card.promises in ("exact", "certified", "none")
    assert "Guarantee: " in (inspect.getdoc(cls) or "")
    with pytest.raises(ValidationError, match="frozen"):
        made.method = "other"
    with pytest.raises(ValidationError, match="no_such_field"):
        cls(no_such_field=1)


@pytest.mark.parametrize(("name", "algorithm", "level"), PAIRS)
def test_it_completes_every_request_at_every_level_it_supports(
    tmp_path: Path, name: str, algorithm: str, level: str
) -> None:
    plan, spec = _place(name, algorithm)
    bench = Bench(digits_population(), tmp_path, plan=plan, spec=spec)
    unlearner: Any = method_class("unlearning", name)(**QUICK.get(name, {}))
    rounds = plan.rounds if algorithm in ("fedavg", "fedsgd") else 1
    requests = _requests(level, rounds)
    processed = bench.serve(unlearner, requests)
    assert [p.case.request for p in processed] == requests
    for p in processed:
        assert np.isfinite(flat(p.released)).all()
        assert all(p.released[key].dtype == p.case.before[key].dtype for key in p.case.before)
        assert list(p.released) == list(p.case.before)
        assert all(np.isfinite(value) for value in p.notes.values())


@pytest.mark.parametrize("name", CARDS)
def test_a_branch_alone_and_beside_others_has_the_same_bits(tmp_path: Path, name: str) -> None:
    algorithm = (CARDS[name].algorithms or ("fedavg",))[0]
    plan, spec = _place(name, algorithm)
    rounds = plan.rounds if algorithm in ("fedavg", "fedsgd") else 1
    unlearner: Any = method_class("unlearning", name)(**QUICK.get(name, {}))
    found = []
    for directory, chosen in (("both", slice(None)), ("alone", slice(1, None))):
        (tmp_path / directory).mkdir()
        bench = Bench(digits_population(), tmp_path / directory, plan=plan, spec=spec)
        found.append(bench.serve(unlearner, _requests(CARDS[name].levels[-1], rounds)[chosen])[-1].released)
    assert np.array_equal(flat(found[0]), flat(found[1]))


@pytest.mark.parametrize("name", CARDS)
def test_everybody_may_leave(tmp_path: Path, name: str) -> None:
    """A request of all records there are, one of a client that has none, and, at that level, a label that vanishes."""
    algorithm = (CARDS[name].algorithms or ("fedavg",))[0]
    plan, spec = _place(name, algorithm)
    population = with_an_empty_client(digits_population())
    rounds = plan.rounds if algorithm in ("fedavg", "fedsgd") else 1
    everything = {c: tuple(range(int(size))) for c, size in enumerate(population.sizes) if size}
    empty = int(np.flatnonzero(population.sizes == 0)[0])
    requests = [DeletionRequest(0, rounds, "client", everything), DeletionRequest(1, rounds, "client", {empty: ()})]
    if "label" in CARDS[name].levels:
        owners = [population.train_y[population.rows(c)] == 3 for c in range(population.clients)]
        vanishing = {c: tuple(np.flatnonzero(own).tolist()) for c, own in enumerate(owners) if own.any()}
        requests.append(DeletionRequest(2, rounds, "label", vanishing, label=3))
    unlearner: Any = method_class("unlearning", name)(**QUICK.get(name, {}))
    processed = Bench(population, tmp_path, plan=plan, spec=spec).serve(unlearner, requests)
    assert [p.case.request for p in processed] == requests
    assert all(np.isfinite(flat(p.released)).all() for p in processed)


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if not NO_CHAINS.intersection(card.needs)])
def test_requests_in_a_chain_each_act_on_the_last_model(tmp_path: Path, name: str) -> None:
    """Two clients leave one after the other, in the middle of training, and the first asks again: it is refused."""
    algorithm = (CARDS[name].algorithms or ("fedavg",))[0]
    plan, spec = _place(name, algorithm)
    iterative = algorithm in ("fedavg", "fedsgd")
    first, _ = _requests("client", plan.rounds)
    second = DeletionRequest(1, first.round, "client", {5: tuple(range(int(digits_population().sizes[5])))})
    again = DeletionRequest(2, first.round, "client", first.forget)
    requests = [
        replace(first, round=2 if iterative else 1),
        *(replace(r, round=3 if iterative else 1) for r in (second, again)),
    ]
    unlearner: Any = method_class("unlearning", name)(**QUICK.get(name, {}))
    bench = Bench(digits_population(), tmp_path, plan=plan, spec=spec)
    processed = bench.serve(unlearner, requests, sequential=True, rounds_between=1 if iterative else 0)
    assert [p.case.request.index for p in processed] == ([0, 1] if unlearner.card.deletes else [0, 1, 2])
    assert all(release.branch == 0 and np.isfinite(flat(release.params)).all() for release in bench.broadcast)
    if unlearner.card.deletes:
        assert set(processed[1].case.forgotten) == {3, 5}
