"""Which labels explain a gradient."""

import numpy as np
import pytest
import torch

from palimpsest.attacks.labels import explain, infer_labels, multiset
from palimpsest.attacks.linear import released_gradients
from palimpsest.simulator.testing.transcripts import Data, digits, forgetting
from palimpsest.simulator.world.models.model import model_of


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
    shared = [
        np.minimum(np.bincount(one.astype(int), minlength=10), np.bincount(data.y[rows], minlength=10)).sum() / 9
        for one, rows in zip(found, deletions, strict=True)
    ]
    assert all(len(one) == 9 and (np.diff(one) >= 0).all() for one in found)
    assert np.mean(shared) >= 0.8


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
