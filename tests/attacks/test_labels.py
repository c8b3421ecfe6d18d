"""Which labels explain a gradient."""

from pathlib import Path

import numpy as np
import pytest
import torch

from palimpsest.attacks.labels import explain, infer_labels, multiset
from palimpsest.attacks.linear import Released, released_gradients
from palimpsest.simulator.testing.transcripts import Data, breast_cancer, digits, forgetting
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.records import Array
from tests.support.trainings import overheard


def agreed(found: Array, true: Array) -> float:
    """Share of the records that two multisets of classes have in common."""
    counts = [np.bincount(np.asarray(some).astype(int), minlength=10) for some in (found, true)]
    return float(np.minimum(*counts).sum() / len(true))


@pytest.mark.parametrize("kind", ["ridge", "softmax", "svm"])
def test_every_label_explains_its_own_residual(kind: str) -> None:
    model = model_of(digits().spec(kind, 1.0))
    scores = np.random.default_rng(0).standard_normal((10, 10))
    residual = model.residual(torch.tensor(scores), torch.arange(10)).numpy()
    assert explain(model, scores, residual).tolist() == list(range(10))


def test_a_multiset_is_found_from_its_exact_sum() -> None:
    rng = np.random.default_rng(1)
    typical = np.eye(6) + 0.1 * rng.standard_normal((6, 6))
    labels = [0, 0, 2, 3, 3, 3, 5]
    assert multiset(typical[labels].sum(axis=0), typical, 7).tolist() == labels


def test_exchanges_correct_a_greedy_start() -> None:
    """The first greedy choice, class 2, is part of no optimum: only an exchange undoes it."""
    typical = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.9]])
    assert multiset(np.array([1.0, 1.0]), typical, 2).tolist() == [0, 1]


@pytest.mark.parametrize(("kind", "regularisation"), [("ridge", 10.0), ("softmax", 8.0)])
def test_most_labels_of_nine_records_come_back(kind: str, regularisation: float) -> None:
    """Chance is 0.4 here: how much two random multisets of nine of ten classes share."""
    data = digits()
    spec = data.spec(kind, regularisation)
    deletions = [list(range(start, start + 9)) for start in range(0, 108, 9)]
    released = released_gradients(forgetting(data, spec, deletions), data.knowledge(spec), "hessian")
    found = infer_labels(data.knowledge(spec), released, [9] * len(deletions))
    shared = [agreed(one, data.y[rows]) for one, rows in zip(found, deletions, strict=True)]
    assert all(len(one) == 9 and (np.diff(one) >= 0).all() for one in found)
    assert np.mean(shared) >= 0.8


def test_it_beats_the_longest_columns_after_sgd(tmp_path: Path) -> None:
    """G read over all rounds has no length to go by, and its records were trained on: five a deletion."""
    data = digits()
    deletions = [list(range(start, start + 5)) for start in range(0, 60, 5)]
    cases, knowledge = overheard(tmp_path, data, deletions, rounds=8, batch=20)
    released = released_gradients(cases, knowledge, "identity")
    assert not released.scaled.any()
    longest = [np.argsort(-np.linalg.norm(one, axis=0) * np.sign(one[-1]))[:5] for one in released.gradients]
    found = infer_labels(knowledge, released, [5] * len(deletions))
    ours, theirs = (
        np.mean([agreed(a, data.y[b]) for a, b in zip(some, deletions, strict=True)]) for some in (found, longest)
    )
    assert ours >= 0.75
    assert ours > theirs + 0.15


def test_a_length_that_tells_nothing_is_not_read() -> None:
    """Same order SGD: only the direction of G counts."""
    data = breast_cancer()
    spec = data.spec("softmax", 2.0)
    deletions = [list(range(start, start + 5)) for start in range(0, 20, 5)]
    exact = released_gradients(forgetting(data, spec, deletions), data.knowledge(spec), "hessian")
    answers = []
    for factor in (1.0, 7.0):
        told = Released(factor * exact.gradients, exact.point, exact.point, np.zeros(len(deletions), dtype=bool))
        answers.append(np.stack(infer_labels(data.knowledge(spec), told, [5] * len(deletions))))
    np.testing.assert_array_equal(answers[0], answers[1])


def test_labels_do_not_depend_on_the_order_of_cases() -> None:
    data = breast_cancer()
    spec = data.spec("ridge", 2.0)
    deletions = [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
    released = released_gradients(forgetting(data, spec, deletions), data.knowledge(spec), "hessian")
    forward = infer_labels(data.knowledge(spec), released, [2, 3, 2, 3])
    backward = infer_labels(data.knowledge(spec), released.some([3, 2, 1, 0]), [3, 2, 3, 2])
    for one, other in zip(forward, backward[::-1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_class_that_the_public_sample_lacks_is_never_inferred() -> None:
    full = digits()
    kept = full.public_y != 3
    data = Data(full.schema, full.x, full.y, full.public_x[kept], full.public_y[kept])
    spec = data.spec("ridge", 10.0)
    threes = np.flatnonzero(data.y == 3)[:2].tolist()
    knowledge = data.knowledge(spec)
    (found,) = infer_labels(knowledge, released_gradients(forgetting(data, spec, [threes]), knowledge, "hessian"), [2])
    assert np.isfinite(found).all()
    assert 3.0 not in found
