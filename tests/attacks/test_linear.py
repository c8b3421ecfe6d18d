"""The identities that reconstruction lives on, with an exact operator, and the operator itself."""

import numpy as np
import pytest
import torch

from palimpsest.attacks.linear import dominant, released_gradient, thetas
from palimpsest.simulator.testing.transcripts import (
    Data,
    ascending,
    breast_cancer,
    design,
    diabetes,
    digits,
    forgetting,
    hardest,
    objective,
)
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import ModelSpec

KINDS = [("ridge", 1.0), ("softmax", 2.0), ("svm", 2.0)]


def expected_gradient(data: Data, spec: ModelSpec, rows: list[int], matrix: Array) -> Array:
    """X_d^T R at ``matrix``, as minus the gradient of the deleted records' losses by autograd."""
    point = torch.tensor(matrix, requires_grad=True)
    free = spec.model_copy(update={"regularisation": 0.0})
    features = design(model_of(spec), data.x[rows])
    (gradient,) = torch.autograd.grad(objective(free, features, torch.tensor(data.y[rows]), point), point)
    return -gradient.numpy()


@pytest.mark.parametrize(("kind", "regularisation"), KINDS)
@pytest.mark.parametrize("size", [1, 4])
def test_two_optima_give_the_deleted_gradient_at_the_second(kind: str, regularisation: float, size: int) -> None:
    """grad L(Theta) - grad L(Theta') + lambda D = X_d^T R(Theta') for every loss, with L over the private records."""
    data = breast_cancer().with_private_as_public()
    spec = data.spec(kind, regularisation)
    rows = hardest(data, spec, size)
    before, after = thetas(forgetting(data, spec, [rows], newton=3))
    released = released_gradient(data.knowledge(spec), before, after)[0]
    expected = expected_gradient(data, spec, rows, after[0])
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(released, expected, rtol=0, atol=1e-10 * max(1.0, np.abs(expected).max()))
    assert np.linalg.matrix_rank(released, tol=1e-8) <= min(len(rows), spec.outputs)


def test_the_identity_holds_for_regression() -> None:
    """The same with one output and real targets: G = sum of x~ (y - Theta'^T x~)."""
    data = diabetes().with_private_as_public()
    spec = data.spec("ridge", 1.0)
    before, after = thetas(forgetting(data, spec, [[4, 9]]))
    released = released_gradient(data.knowledge(spec), before, after)[0]
    np.testing.assert_allclose(released, expected_gradient(data, spec, [4, 9], after[0]), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kind", "regularisation"), [("ridge", 1.0), ("softmax", 2.0)])
def test_the_operator_is_the_public_hessian_averaged_over_the_way(kind: str, regularisation: float) -> None:
    """Against Hessians that autograd materialises at the nodes of a Gauss-Legendre rule: (n/m) H_pub D + lambda D."""
    data = diabetes()
    data = Data(
        data.schema.model_copy(update={"task": "classification", "outputs": 3}),
        data.x,
        np.digitize(data.y, [-0.5, 0.5]),
        data.public_x[:90],
        np.digitize(data.public_y[:90], [-0.5, 0.5]),
    )
    spec = data.spec(kind, regularisation)
    rng = np.random.default_rng(0)
    before, after = rng.standard_normal((1, 11, 3)), rng.standard_normal((1, 11, 3))
    features, y = design(model_of(spec), data.public_x), torch.tensor(data.public_y)
    free = spec.model_copy(update={"regularisation": 0.0})
    change = (before - after)[0].ravel()
    expected = regularisation * change
    nodes, weights = np.polynomial.legendre.leggauss(40)
    for node, weight in zip(nodes, weights, strict=True):
        point = torch.tensor(after[0] + 0.5 * (node + 1.0) * (before - after)[0]).ravel()
        hessian = torch.autograd.functional.hessian(
            lambda flat: objective(free, features, y, flat.view(11, 3)), point, vectorize=True
        )
        expected = expected + 0.5 * weight * len(data.x) / len(features) * (hessian.numpy() @ change)
    released = released_gradient(data.knowledge(spec), before, after)
    np.testing.assert_allclose(released[0].ravel(), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_one_ascent_step_leaves_the_gradient_itself() -> None:
    """D = step * X_d^T R(Theta): no operator is needed."""
    data = digits()
    spec = data.spec("softmax", 1.0)
    before, after = thetas(ascending(data, spec, [[3], [4, 5]], step=0.1))
    for change, start, rows in zip((before - after) / 0.1, before, [[3], [4, 5]], strict=True):
        np.testing.assert_allclose(change, expected_gradient(data, spec, rows, start), rtol=0, atol=1e-12)


def test_the_dominant_direction_of_nothing_is_nothing() -> None:
    gradients = np.zeros((2, 4, 3))
    gradients[1] = np.outer([0.0, 3.0, 0.0, 4.0], [1.0, 2.0, 2.0])
    top = dominant(gradients)
    assert not top[0].any()
    np.testing.assert_allclose(np.abs(top[1]), [0.0, 0.6, 0.0, 0.8], atol=1e-12)
