"""What is measured of forgetting, on losses and scores whose answers are known."""

from typing import Literal

import numpy as np
import pytest
from scipy.special import log_softmax

from palimpsest.simulator.unlearning_metrics.evaluation import UtilityEvaluator, symmetric_kl
from palimpsest.simulator.unlearning_metrics.membership import auc, detects, ranks, remembers, true_positives
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.specs import ModelSpec


def _losses(seed: int, shift: float, members: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(-shift, 1.0, members), rng.normal(0.0, 1.0, 5000)


def test_ranks_count_pairs() -> None:
    found = ranks(np.array([1.0, 2.0, 5.0]), np.array([3.0, 0.0, 4.0, 2.0]))
    assert found.tolist() == [0.75, 0.625, 0.0]
    assert auc([found]) == pytest.approx((0.75 + 0.625 + 0.0) / 3)


def test_true_positives_at_a_low_rate_are_what_the_shift_of_two_gaussians_gives() -> None:
    """At 1 % the threshold is the held-out losses' first percentile: Phi(shift - 2.326) of the members are below."""
    own, rest = _losses(0, shift=2.0)
    found = true_positives([ranks(own, rest)], len(rest))
    assert found["tpr_at_1_percent"] == pytest.approx(0.372, abs=0.08)  # standard errors: 0.024, and the threshold's
    assert found["tpr_at_01_percent"] < found["tpr_at_1_percent"]
    threshold = np.sort(rest)[int(0.01 * len(rest))]
    assert found["tpr_at_1_percent"] == pytest.approx((own < threshold).mean(), abs=1e-9)


def test_a_rate_that_the_held_out_records_cannot_resolve_is_absent() -> None:
    own, rest = _losses(0, shift=1.0)
    assert set(true_positives([ranks(own, rest[:500])], 500)) == {"tpr_at_1_percent"}
    assert true_positives([ranks(own, rest[:50])], 50) == {}


def test_the_gate_opens_for_a_test_that_sees_members_and_for_no_other() -> None:
    """Ranks under the trained model, beside those under models that never saw the records: chance, on average."""

    def opened(seed: int, shift: float, easy: float = 0.0) -> bool:
        (own, rest), (unseen, _) = _losses(seed, shift + easy), _losses(seed + 1000, easy)
        return remembers([ranks(own, rest)], [ranks(unseen, rest)])

    assert sum(opened(seed, shift=0.0) for seed in range(100)) <= 10  # at most 2.5 of 100 by chance
    assert all(opened(seed, shift=0.5) for seed in range(20))
    assert not any(opened(seed, shift=-0.5) for seed in range(20))
    assert sum(opened(seed, shift=0.0, easy=0.5) for seed in range(100)) <= 10  # easy records are no members
    assert not detects([np.array([1.0])])


def test_symmetric_kl_is_both_directions_and_ignores_constants() -> None:
    p, q = np.array([[0.2, 0.8]]), np.array([[0.5, 0.5]])
    expected = (p * np.log(p / q)).sum() + (q * np.log(q / p)).sum()
    assert symmetric_kl(np.log(p), np.log(q) + 7.0) == pytest.approx(expected)
    assert symmetric_kl(np.log(p), np.log(p)) == 0.0


@pytest.mark.parametrize("kind", ["softmax", "ridge", "mlp"])
def test_models_judged_together_are_judged_as_each_alone(kind: Literal["softmax", "ridge", "mlp"]) -> None:
    """And as cross-entropy or squared error and the arg max say, by hand, of each model's own scores."""
    spec = ModelSpec(kind=kind, task="classification", shape=(1, 4, 4), outputs=3, regularisation=1.0, dtype="float64")
    model, rng = model_of(spec), np.random.default_rng(0)
    models = [model.init(rng) for _ in range(5)]
    x, y = rng.random((40, 16)), rng.integers(0, 3, 40)
    judge = UtilityEvaluator(model, x, y)
    together = judge(models)
    for i, params in enumerate(models):
        scores = model.predict(params, x)
        losses = (
            0.5 * ((np.eye(3)[y] - scores) ** 2).sum(1) if kind == "ridge" else -log_softmax(scores, 1)[range(40), y]
        )
        np.testing.assert_allclose(together.scores[i], scores, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(together.losses[i], losses, rtol=1e-12)
        np.testing.assert_allclose(judge([params]).losses[0], together.losses[i], rtol=1e-12)
        assert together.utility[i] == (scores.argmax(1) == y).mean()
    assert np.array_equal(judge.alone(models), together.utility)
    assert judge.alone([]).shape == (0,)


def test_utilities_of_a_regression_are_the_same_without_losses() -> None:
    spec = ModelSpec(kind="ridge", task="regression", shape=(6,), outputs=1, regularisation=1.0, dtype="float32")
    model, rng = model_of(spec), np.random.default_rng(1)
    models = [{name: rng.normal(size=value.shape) for name, value in model.init(rng).items()} for _ in range(3)]
    judge = UtilityEvaluator(model, rng.random((40, 6)), rng.normal(size=40))
    assert np.array_equal(judge.alone(models), judge(models).utility)
    assert len(set(judge.alone(models))) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["softmax", "ridge", "svm", "mlp"])
def test_no_bit_of_a_model_depends_on_those_it_is_judged_with(
    kind: Literal["softmax", "ridge", "svm", "mlp"], dtype: Literal["float32", "float64"]
) -> None:
    spec = ModelSpec(kind=kind, task="classification", shape=(1, 8, 8), outputs=10, regularisation=1.0, dtype=dtype)
    model, rng = model_of(spec), np.random.default_rng(0)
    models = [{name: rng.normal(size=value.shape) for name, value in model.init(rng).items()} for _ in range(7)]
    judge = UtilityEvaluator(model, rng.random((1100, 64)), rng.integers(0, 10, 1100))
    together, backwards = judge(models), judge(models[::-1])
    for i, params in enumerate(models):
        for other, place in ((judge([params]), 0), (backwards, 6 - i), (judge(models[i:]), 0)):
            np.testing.assert_array_equal(other.scores[place], together.scores[i])
            np.testing.assert_array_equal(other.losses[place], together.losses[i])
