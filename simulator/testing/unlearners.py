"""What every unlearning method must be and do.

Each function checks one thing of a method that is registered, built in or announced by an entry point, on small
federations of digits; ``check_unlearner`` checks all of them. ``settings`` are hyper-parameters that make it shorter.
"""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from palimpsest.server.setup import TrainingPlan
from palimpsest.simulator.scenario.registry import card, method_class
from palimpsest.simulator.testing.frozen import check_frozen
from palimpsest.simulator.testing.populations import digits_population, with_an_empty_client, with_records_replaced
from palimpsest.simulator.testing.servers import FEDAVG, RIDGE, SOFTMAX, Bench
from palimpsest.simulator.world.models.kinds import suited, suits
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.unlearning import Unlearner
from palimpsest.simulator.world.records import DeletionRequest, Level, Release
from palimpsest.simulator.world.specs import ModelSpec

PLACES: dict[str, tuple[TrainingPlan, ModelSpec]] = {
    "fedavg": (FEDAVG, SOFTMAX),
    "fedsgd": (FEDAVG.model_copy(update={"algorithm": "fedsgd"}), SOFTMAX),
    "lbfgs": (
        TrainingPlan(algorithm="lbfgs", gradient_norm=1e-8, perturbation=0.1),
        SOFTMAX.model_copy(update={"dtype": "float64"}),
    ),
    "closed-form": (TrainingPlan(algorithm="closed-form", perturbation=0.1), RIDGE),
}
"""By training algorithm: a training, and a model that it fits."""


def check_unlearner(name: str, directory: Path, **settings: Any) -> None:
    """Check everything that is asked of an unlearning method.

    Args:
        name: under which it is registered.
        directory: to work in; empty.
        **settings: its hyper-parameters; all have defaults.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    check_configuration(name)
    for algorithm, level in pairs(name):
        check_completion(name, algorithm, level, _new(directory, f"{algorithm}-{level}"), **settings)
        if card("unlearning", name).promises == "exact":
            place = _new(directory, f"{algorithm}-{level}-counterfactual")
            check_counterfactual(name, algorithm, level, place, **settings)
    check_branches(name, _new(directory, "branches"), **settings)
    check_everybody(name, _new(directory, "everybody"), **settings)
    if has_chains(name):
        check_chain(name, _new(directory, "chain"), **settings)


def pairs(name: str) -> list[tuple[str, str]]:
    """The training algorithms and deletion levels that the method's card names."""
    about = card("unlearning", name)
    return [
        (algorithm, level)
        for algorithm in about.algorithms or tuple(PLACES)
        for level in about.levels
        if {PLACES[algorithm][1].kind, "mlp"}.intersection(suited(about))
    ]


def has_chains(name: str) -> bool:
    """Whether requests may be a chain: what single clients sent is of the first training alone."""
    return "client updates" not in card("unlearning", name).needs


def check_configuration(name: str) -> None:
    """It is a frozen configuration with defaults, called as it is registered, that states its guarantee."""
    made, about = _made(name), card("unlearning", name)
    check_frozen(made, "method", name)
    assert about.levels, f"{name}: its card names no deletion level"
    assert about.promises in ("exact", "certified", "none"), f"{name}: it cannot promise {about.promises!r}"
    assert "Guarantee: " in (inspect.getdoc(type(made)) or ""), f"{name}: its docstring states no 'Guarantee: '"


def check_completion(name: str, algorithm: str, level: str, directory: Path, **settings: Any) -> None:
    """It completes two alternative requests, with finite models of the same parameters and types."""
    plan, spec = _place(name, algorithm)
    requests = _alternatives(level, _rounds(plan))
    processed = Bench(digits_population(), directory, plan=plan, spec=spec).serve(_made(name, **settings), requests)
    assert [p.case.request for p in processed] == requests, f"{name}: requests are missing"
    for p in processed:
        before = p.case.before
        assert np.isfinite(flat(p.released)).all(), f"{name}: the released model is not finite"
        assert list(p.released) == list(before), f"{name}: parameters {list(p.released)} instead of {list(before)}"
        assert all(p.released[key].dtype == before[key].dtype for key in before), f"{name}: a parameter's type changed"
        assert all(np.isfinite(value) for value in p.notes.values()), f"{name}: a note is not finite"


def check_branches(name: str, directory: Path, **settings: Any) -> None:
    """A request alone and beside another one ends in the same bits."""
    plan, spec = _place(name)
    released = []
    for place, chosen in (("both", slice(None)), ("alone", slice(1, None))):
        bench = Bench(digits_population(), _new(directory, place), plan=plan, spec=spec)
        requests = _alternatives(card("unlearning", name).levels[-1], _rounds(plan))[chosen]
        released.append(bench.serve(_made(name, **settings), requests)[-1].released)
    assert np.array_equal(flat(released[0]), flat(released[1])), (
        f"{name}: a request's model depends on the other requests"
    )


def check_everybody(name: str, directory: Path, **settings: Any) -> None:
    """Everybody may leave, or a client that has no record, or, at that level, a label that vanishes."""
    plan, spec = _place(name)
    population, rounds = with_an_empty_client(digits_population()), _rounds(plan)
    everything = {c: tuple(range(int(size))) for c, size in enumerate(population.sizes) if size}
    empty = int(np.flatnonzero(population.sizes == 0)[0])
    requests = [DeletionRequest(0, rounds, "client", everything), DeletionRequest(1, rounds, "client", {empty: ()})]
    if "label" in card("unlearning", name).levels:
        owners = [population.train_y[population.rows(c)] == 3 for c in range(population.clients)]
        vanishing = {c: tuple(np.flatnonzero(owned).tolist()) for c, owned in enumerate(owners) if owned.any()}
        requests.append(DeletionRequest(2, rounds, "label", vanishing, label=3))
    processed = Bench(population, directory, plan=plan, spec=spec).serve(_made(name, **settings), requests)
    assert [p.case.request for p in processed] == requests, f"{name}: requests are missing"
    assert all(np.isfinite(flat(p.released)).all() for p in processed), f"{name}: a model is not finite"


def check_chain(name: str, directory: Path, **settings: Any) -> None:
    """Two clients leave one after the other, in the middle of training, and the first asks again: it is refused."""
    plan, spec = _place(name)
    iterative = plan.algorithm in ("fedavg", "fedsgd")
    first, _ = _alternatives("client", plan.rounds)
    second = DeletionRequest(1, first.round, "client", {5: tuple(range(int(digits_population().sizes[5])))})
    again = DeletionRequest(2, first.round, "client", first.forget)
    requests = [
        replace(first, round=2 if iterative else 1),
        *(replace(r, round=3 if iterative else 1) for r in (second, again)),
    ]
    unlearner = _made(name, **settings)
    bench = Bench(digits_population(), directory, plan=plan, spec=spec)
    processed = bench.serve(unlearner, requests, sequential=True, rounds_between=1 if iterative else 0)
    done = [p.case.request.index for p in processed]
    assert done == ([0, 1] if unlearner.card.deletes else [0, 1, 2]), f"{name}: of a chain it completed requests {done}"
    assert all(release.branch == 0 and np.isfinite(flat(release.params)).all() for release in bench.broadcast)
    if unlearner.card.deletes:
        assert set(processed[1].case.forgotten) == {3, 5}


def check_counterfactual(
    name: str, algorithm: str, level: str, directory: Path, tolerance: float = 1e-10, **settings: Any
) -> None:
    """What an exact method releases does not depend on the values of the records that were deleted.

    Args:
        name: under which it is registered.
        algorithm, level: one of ``pairs``.
        directory: to work in; empty.
        tolerance: largest difference of a parameter; subtraction in floating point leaves a residue.
        **settings: its hyper-parameters.
    """
    plan, spec = _place(name, algorithm)
    requests = _alternatives(level, _rounds(plan))[1:]
    worst = max(counterfactual_distances(_made(name, **settings), requests, directory, plan=plan, spec=spec))
    assert worst <= tolerance, f"{name}: released models differ by {worst:g} where only deleted records differ"


def counterfactual_distances(
    unlearner: Unlearner, requests: list[DeletionRequest], directory: Path, **bench: Any
) -> list[float]:
    """Run twice, the second time with other values in the places of the deleted records.

    Returns:
        Largest difference of a parameter, for each release of unlearning and recovery.
    """
    heard: list[list[Release]] = []
    for name in ("original", "replaced"):
        population = digits_population()
        if name == "replaced":
            forget = {c: r for request in requests for c, r in request.forget.items()}
            population = with_records_replaced(population, forget, directory / "counterfactual")
        server = Bench(population, _new(directory, name), **bench)
        server.serve(unlearner, requests)
        heard.append([release for release in server.broadcast if release.phase in ("unlearning", "recovery")])
    assert len(heard[0]) == len(heard[1]) > 0, "the number of releases depends on the deleted records"
    return [float(np.abs(flat(a.params) - flat(b.params)).max()) for a, b in zip(*heard, strict=True)]


def _made(name: str, **settings: Any) -> Any:
    return method_class("unlearning", name)(**settings)


def _place(name: str, algorithm: str = "") -> tuple[TrainingPlan, ModelSpec]:
    """A training that the method works on; the first that it names, where none is asked for."""
    about = card("unlearning", name)
    plan, spec = PLACES[algorithm or (about.algorithms or ("fedavg",))[0]]
    if not suits(about, spec.kind):
        spec = spec.model_validate({**spec.model_dump(), "kind": suited(about)[0]})
    return plan.model_copy(update={"shards": 3 if "shard checkpoints" in about.needs else 1}), spec


def _rounds(plan: TrainingPlan) -> int:
    return plan.rounds if plan.algorithm in ("fedavg", "fedsgd") else 1


def _alternatives(level: str, rounds: int) -> list[DeletionRequest]:
    """Two alternatives: one of a single client, one of two together."""
    population = digits_population()
    wanted: list[dict[int, Any]] = [{3: slice(None)}, {1: slice(None), 5: slice(None)}]
    if level == "record":
        wanted = [{3: slice(1)}, {1: slice(2), 5: slice(1)}]
    forget = [
        {c: tuple(range(int(population.sizes[c])))[part] for c, part in forget_of.items()} for forget_of in wanted
    ]
    label = 0 if level == "label" else None
    return [DeletionRequest(i, rounds, cast(Level, level), forget_of, label) for i, forget_of in enumerate(forget)]


def _new(directory: Path, name: str) -> Path:
    place = directory / name
    place.mkdir(parents=True)
    return place
