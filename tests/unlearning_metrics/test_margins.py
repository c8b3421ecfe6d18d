"""Answers that are told from a model nearby are those of the whole product."""

import numpy as np
import pytest

from palimpsest.simulator.unlearning_metrics import margins
from palimpsest.simulator.unlearning_metrics.margins import Margins
from palimpsest.simulator.world.records import Array, Params


def drawn(seed: int, n: int = 3000, inputs: int = 50, classes: int = 4) -> tuple[Array, Params]:
    """Records, a tenth of them zero or copies of others, and a model."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, inputs)).astype(np.float32)
    x[: n // 20], x[n // 20 : n // 10] = 0.0, x[-1]
    return x, {"weight": rng.standard_normal((classes, inputs)), "bias": rng.standard_normal(classes)}


def moved(model: Params, by: float, seed: int) -> Params:
    rng = np.random.default_rng(seed)
    return {name: value + by * rng.standard_normal(value.shape) for name, value in model.items()}


def whole(x: Array, model: Params) -> Array:
    answers: Array = (x.astype(np.float64) @ model["weight"].T + model["bias"]).argmax(axis=1)
    return answers


@pytest.mark.parametrize("by", [0.0, 1e-12, 1e-6, 1e-3, 1e-2, 0.1, 1.0, 1e3])
@pytest.mark.parametrize("seed", [0, 1])
def test_answers_are_those_of_the_whole_product(by: float, seed: int) -> None:
    x, reference = drawn(seed)
    model = moved(reference, by, seed + 10)
    np.testing.assert_array_equal(Margins(x, reference).answers(model), whole(x, model))


def test_a_change_that_turns_one_record_is_seen() -> None:
    x, reference = drawn(2)
    scores = x[-1].astype(np.float64) @ reference["weight"].T + reference["bias"]
    first, second = np.argsort(scores)[[-1, -2]]
    lead = scores[first] - scores[second]
    for share in (0.999, 1.001):  # along the record itself: the bound of Cauchy and Schwarz is met
        turned = {name: value.copy() for name, value in reference.items()}
        step = share * lead / (x[-1] @ x[-1] + 1.0) / 2
        for place, sign in ((first, -step), (second, step)):
            turned["weight"][place] += sign * x[-1]
            turned["bias"][place] += sign
        answers = Margins(x, reference).answers(turned)
        assert answers[-1] == (first if share < 1 else second)
        np.testing.assert_array_equal(answers, whole(x, turned))


def test_few_records_are_computed_for_a_model_nearby(monkeypatch: pytest.MonkeyPatch) -> None:
    x, reference = drawn(3)
    near = Margins(x, reference)
    computed: list[int] = []
    scores = margins._scores
    monkeypatch.setattr(margins, "_scores", lambda some, model: computed.append(len(some)) or scores(some, model))
    near.answers(moved(reference, 1e-4, 0))
    assert 0 < sum(computed) < len(x) // 20
    near.answers(moved(reference, 1e3, 0))
    assert sum(computed) > len(x)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_of_a_diverged_model_all_records_are_computed(broken: float) -> None:
    x, reference = drawn(4)
    diverged = {name: np.full_like(value, broken) for name, value in reference.items()}
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(Margins(x, reference).answers(diverged), whole(x, diverged))
        np.testing.assert_array_equal(Margins(x, diverged).answers(reference), whole(x, reference))


def test_who_is_computed_beside_a_record_changes_nothing() -> None:
    """Two classes of equal weights in another order tie on constant records: the last bits of sums decide."""
    rng = np.random.default_rng(5)
    weights = rng.standard_normal(784)
    model = {"weight": np.stack([weights, rng.permutation(weights)]), "bias": np.zeros(2)}
    x = np.concatenate([np.full((1, 784), 0.3), rng.standard_normal((2000, 784))]).astype(np.float32)
    answers = [Margins(x, moved(model, by, 0)).answers(model) for by in (0.0, 1e-9, 1e-3, 0.1, 10.0)]
    for other in answers[1:]:
        np.testing.assert_array_equal(other, answers[0])


def test_rounding_is_granted_where_scores_cancel() -> None:
    """A lead that is nothing but rounding of large numbers settles no answer of another model."""
    x = np.full((40, 3), [1.0, -1.0, 0.0])
    x[:, 2] = np.linspace(0.0, 1e-9, 40)
    reference = {"weight": np.array([[1e8, 1e8, 1e-6], [1e8, 1e8, 0.0]]), "bias": np.zeros(2)}
    near = Margins(x, reference)
    computed = near._order[: np.searchsorted(near._lead, near._reach(margins._stacked(reference)), side="right")]
    assert len(computed) == len(x)
