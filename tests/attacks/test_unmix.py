"""What unmix gets back of several records deleted at once, beside what matching gets back."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from palimpsest.attacks.deletion_equations import DeletionEquations, without
from palimpsest.attacks.exchange import Exchange
from palimpsest.attacks.gibbs_labels import GibbsLabels
from palimpsest.attacks.hrec import Hrec
from palimpsest.attacks.labels import infer_labels
from palimpsest.attacks.linear import released_gradients
from palimpsest.attacks.prior import PrincipalComponents
from palimpsest.attacks.unmix import Unmix
from palimpsest.simulator.testing.transcripts import Data, cosines, diabetes, digits, forgetting
from palimpsest.simulator.world.models.model import linear_params, model_of, theta
from palimpsest.simulator.world.protocols.attack import Attack
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelKind

STRENGTH: dict[ModelKind, float] = {"ridge": 10.0, "softmax": 8.0}


def groups(size: int, count: int) -> list[list[int]]:
    return [list(range(start, start + size)) for start in range(0, size * count, size)]


def staying(data: Data, gone: list[int]) -> Data:
    """The same data for an adversary whose public sample is what the deletion of ``gone`` leaves."""
    return Data(data.schema, data.x, data.y, np.delete(data.x, gone, axis=0), np.delete(data.y, gone))


def matched(
    attack: Attack, data: Data, deletions: Sequence[Sequence[int]], cases: Sequence[Case], knowledge: PublicKnowledge
) -> Array:
    """Cosine of every deleted record with the answer matched to it."""
    each = []
    for one, rows in zip(attack.run(cases, knowledge, generator(0, "test")), deletions, strict=True):
        true = data.x[list(rows)]
        likeness = np.stack([cosines(np.tile(row, (len(true), 1)), true) for row in one.x])
        each.append(likeness[linear_sum_assignment(-likeness)])
    return np.concatenate(each)


def shared(found: Array, true: Array) -> float:
    """Share of two multisets of ten classes."""
    counts = [np.bincount(labels.astype(int), minlength=10) for labels in (found, true)]
    return float(np.minimum(*counts).sum() / len(true))


@pytest.mark.parametrize("kind", ["ridge", "softmax"])
def test_the_true_records_solve_the_equations_of_an_exact_operator(kind: ModelKind) -> None:
    """Up to what the optimisers of these tests leave of the gradient; with wrong labels the records do not."""
    data = digits(private=300).with_private_as_public()
    spec = data.spec(kind, STRENGTH[kind])
    knowledge = data.knowledge(spec)
    released = released_gradients(forgetting(data, spec, [[0, 1, 2, 3]], newton=1), knowledge, "hessian")
    space = PrincipalComponents(knowledge, 64)
    equations = DeletionEquations(knowledge, released, space, 4)
    z = torch.tensor((data.x[:4] - space.mean) @ space.basis)
    nothing = torch.zeros_like(z)
    labels = torch.tensor(data.y[:4])
    assert float(equations.fit(z, labels, nothing)) < 1e-10 * float(equations.fit(0 * z, labels, nothing))
    assert float(equations.fit(z, (labels + 1) % 10, nothing)) > 1.0


@pytest.mark.parametrize("kind", ["ridge", "softmax"])
def test_a_public_sample_of_those_who_stay_gives_the_gradient_of_those_who_go(kind: ModelKind) -> None:
    data = staying(digits(private=300), [0, 1, 2, 3])
    spec = data.spec(kind, STRENGTH[kind])
    (case,) = forgetting(data, spec, [[0, 1, 2, 3]], newton=1)
    _, released = without(case, data.knowledge(spec), "hessian")
    lifted = np.concatenate([data.x[:4], np.ones((4, 1))], axis=1)
    scores = torch.tensor(lifted @ theta(case.before))
    true = lifted.T @ model_of(spec).residual(scores, torch.tensor(data.y[:4])).numpy()
    assert np.linalg.norm(released.gradients[0] - true) < 1e-5 * np.linalg.norm(true)


def test_large_residuals_have_a_price() -> None:
    """Of two answers that leave the same misfit, the one by larger residuals is the less likely."""
    data = digits(private=300).with_private_as_public()
    spec = data.spec("softmax", STRENGTH["softmax"])
    knowledge = data.knowledge(spec)
    released = released_gradients(forgetting(data, spec, [[0, 1, 2, 3]], newton=1), knowledge, "hessian")
    space = PrincipalComponents(knowledge, 20)
    equations = DeletionEquations(knowledge, released, space, 4)
    z = torch.tensor((data.x[:4] - space.mean) @ space.basis)
    nothing, labels = torch.zeros_like(z), torch.tensor(data.y[:4])

    def price(classes: torch.Tensor) -> float:
        return float(equations.loss(z, classes, nothing) - equations.fit(z, classes, nothing))

    assert price(labels) < price((labels + 1) % 10)


@pytest.mark.parametrize(
    ("kind", "size", "margin"), [("ridge", 3, 0.0), ("ridge", 9, 0.1), ("softmax", 3, 0.0), ("softmax", 9, 0.0)]
)
def test_it_separates_what_matching_cannot(kind: ModelKind, size: int, margin: float) -> None:
    """Of three records, or where softmax leaves most residuals near 0, matching gets much back as well."""
    data = digits()
    spec = data.spec(kind, STRENGTH[kind])
    deletions = groups(size, 4)
    cases, knowledge = forgetting(data, spec, deletions), data.knowledge(spec)
    unmixed = np.median(matched(Unmix(), data, deletions, cases, knowledge))
    simple = np.median(matched(Hrec(), data, deletions, cases, knowledge))
    assert unmixed >= 0.93
    assert unmixed > simple + margin


def test_what_few_components_leave_out_is_completed() -> None:
    """With the exact operator and one record a request, its 8 coordinates of 64 are enough to give the record back."""
    shown, completed = [], []
    for row in range(6):
        data = staying(digits(private=300), [row])
        spec = data.spec("ridge", 10.0)
        knowledge = data.knowledge(spec)
        space = PrincipalComponents(knowledge, 8)
        (case,) = forgetting(data, spec, [[row]])
        equations = DeletionEquations(*without(case, knowledge, "hessian"), space, 1)
        z = space.coordinates(data.x[[row]], knowledge)
        shown.append(cosines(space.features(z), data.x[[row]]))
        completed.append(cosines(equations.features(z, data.y[[row]]), data.x[[row]]))
    assert np.median(completed) > np.median(shown) + 0.03


def test_exchanges_correct_labels() -> None:
    data = digits()
    spec = data.spec("ridge", 10.0)
    deletions = groups(6, 10)
    knowledge = data.knowledge(spec)
    exchange = Exchange(knowledge, PrincipalComponents(knowledge, 20))
    cases, before, after = forgetting(data, spec, deletions), [], []
    inferred = infer_labels(knowledge, released_gradients(cases, knowledge, "hessian"), [6] * len(cases))
    for case, rows, labels in zip(cases, deletions, inferred, strict=True):
        released = released_gradients([case], knowledge, "hessian")
        start = 0.1 * generator(0, "test").standard_normal((6, exchange.width))
        before.append(shared(labels, data.y[rows]))
        after.append(shared(exchange.infer(released, start, 20), data.y[rows]))
    assert np.mean(after) >= 0.9
    assert np.mean(after) > np.mean(before)


def test_draws_find_labels_that_softmax_all_but_hides() -> None:
    data = digits()
    spec = data.spec("softmax", 1.0)
    deletions = groups(6, 10)
    knowledge = data.knowledge(spec)
    space = PrincipalComponents(knowledge, 60)
    means, draws = [], []
    for case, rows in zip(forgetting(data, spec, deletions), deletions, strict=True):
        rest, released = without(case, knowledge, "hessian")
        means.append(shared(infer_labels(rest, released, [6])[0], data.y[rows]))
        draws.append(shared(GibbsLabels(rest, space).infer(released, 6, 20, generator(0, "test")), data.y[rows]))
    assert np.mean(draws) > np.mean(means)
    assert np.mean(draws) >= 0.7


def test_regression_targets_are_estimated_with_the_records() -> None:
    data = diabetes().with_private_as_public()
    spec = data.spec("ridge", 1.0)
    cases = forgetting(data, spec, [[row] for row in range(20)])
    found = Unmix().run(cases, data.knowledge(spec), generator(0, "test"))
    errors = np.abs(np.concatenate([one.y for one in found]) - data.y[:20])
    assert np.median(errors) < 0.3 * np.median(np.abs(data.y[:20] - data.y.mean()))


def test_another_deletions_models_say_nothing_of_these_records() -> None:
    """The answer to a change that has nothing to do with the records is no nearer to them than the public mean."""
    data = digits()
    spec = data.spec("ridge", 10.0)
    deletions = groups(5, 4)
    (elsewhere,) = forgetting(data, spec, [list(range(700, 705))])
    cases = [Case(i, 5, elsewhere.before, elsewhere.after) for i in range(4)]
    knowledge = data.knowledge(spec)
    wrong = matched(Unmix(), data, deletions, cases, knowledge)
    mean = np.concatenate([cosines(np.tile(knowledge.mean, (5, 1)), data.x[rows]) for rows in deletions])
    assert np.median(wrong) <= np.median(mean) + 0.02


def test_a_model_of_noise_gives_finite_answers() -> None:
    data = digits(private=200, public=60)
    rng = generator(1, "test")
    before = rng.standard_normal((65, 10))
    case = Case(0, 4, linear_params(before), linear_params(before + rng.standard_normal((65, 10))))
    (one,) = Unmix().run([case], data.knowledge(data.spec("softmax", 2.0)), rng)
    assert np.isfinite(one.x).all()
    assert (one.x >= 0).all()
    assert (one.x <= 1).all()
