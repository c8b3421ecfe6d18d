"""What holds of every distance of two models, and of every measure of one."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, r2_score

from palimpsest.simulator.testing.servers import SOFTMAX
from palimpsest.simulator.unlearning_metrics.evaluation import Evaluated
from palimpsest.simulator.unlearning_metrics.measures import CARDS, DISTANCE_CARDS, distances, measures
from palimpsest.simulator.unlearning_metrics.measures.measure import Observed, Portrait, Retained
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import DeletionRequest
from palimpsest.simulator.world.specs import ModelSpec

MODELS, TEST, FORGOTTEN, CLIENTS = 3, 2000, 4, 5
YES_OR_NO = SOFTMAX.model_copy(update={"kind": "ridge", "outputs": 2})


def params(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"weight": rng.normal(size=(10, 64)), "bias": rng.normal(size=10)}


def portrait(seed: int) -> Portrait:
    scores = np.random.default_rng(seed + 100).normal(size=(50, 10))
    return Portrait(params(seed), {}, None, scores)


def judged(count: int, classes: int) -> Evaluated:
    rng = np.random.default_rng(count)
    labels = rng.integers(0, classes, count)
    scores = rng.normal(size=(MODELS, count, classes)) / 4 + np.eye(classes)[labels]
    return Evaluated(rng.random(MODELS), rng.random((MODELS, count)), scores, scores.argmax(-1), labels)


def observed(spec: ModelSpec = SOFTMAX) -> Observed:
    """Three models for one request, with all that a measure may ask for."""
    rng = np.random.default_rng(0)
    models = [params(seed) for seed in range(MODELS)]
    forget = {0: tuple(range(FORGOTTEN))}
    case = UnlearningCase(
        request=DeletionRequest(0, 0, "record", forget), branch=1, before=models[0], round=0, forgotten=forget
    )
    left = np.full(CLIENTS, 20)
    retained = Retained(rng.random(MODELS), left, rng.integers(0, 20, (MODELS, CLIENTS)))
    ranks = rng.random((MODELS, FORGOTTEN))
    return Observed(
        case,
        model_of(spec),
        models,
        judged(FORGOTTEN, spec.outputs),
        retained,
        judged(TEST, spec.outputs),
        TEST,
        ranks,
        rng.random(MODELS),
    )


@pytest.mark.parametrize("name", DISTANCE_CARDS)
def test_a_distance_is_0_to_itself_positive_to_others_and_the_same_both_ways(name: str) -> None:
    between = distances()[name].between
    there, back = between(portrait(0), portrait(1)), between(portrait(1), portrait(0))
    assert between(portrait(0), portrait(0)) == pytest.approx(0.0, abs=1e-12)
    assert there is not None and there > 0.0
    assert back == pytest.approx(there)


def test_predictions_that_are_no_probabilities_have_no_divergence() -> None:
    assert distances()["kl"].between(portrait(0), replace(portrait(1), scores=None)) is None


@pytest.mark.parametrize("name", CARDS)
def test_a_measure_is_a_share_or_a_loss_a_model_that_takes_no_notice_of_the_others(name: str) -> None:
    there = observed(YES_OR_NO if name in ("r2", "f1_positive") else SOFTMAX)
    values = measures()[name].values(there)
    assert values is not None
    assert values.shape == (MODELS,) and ((values >= 0.0) & (values <= 1.0)).all()
    assert there.test is not None and there.ranks is not None and there.backdoor is not None
    alone = replace(
        there,
        models=there.models[1:2],
        forgotten=there.forgotten.some([1]),
        test=there.test.some([1]),
        ranks=there.ranks[[1]],
        retained=replace(there.retained, utility=there.retained.utility[[1]], right=there.retained.right[[1]]),
        backdoor=there.backdoor[[1]],
    )
    np.testing.assert_allclose(measures()[name].values(alone), values[[1]])


@pytest.mark.parametrize(
    "name", ["utility", "f1_macro", "membership_auc", "membership_tpr_at_1_percent", "backdoor_success"]
)
def test_what_needs_records_that_are_not_there_does_not_apply(name: str) -> None:
    assert measures()[name].values(replace(observed(), test=None, ranks=None, held_out=0, backdoor=None)) is None


def test_a_rate_that_test_records_are_too_few_for_is_absent() -> None:
    few = replace(observed(), held_out=500)
    assert measures()["membership_tpr_at_1_percent"].values(few) is not None
    assert measures()["membership_tpr_at_01_percent"].values(few) is None


def test_f1_and_r2_are_scikit_learns() -> None:
    there, all_measures = observed(YES_OR_NO), measures()
    assert there.test is not None
    labels = there.test.targets
    by_hand = {
        "f1_macro": [f1_score(labels, answers, average="macro") for answers in there.test.answers],
        "f1_positive": [f1_score(labels, answers) for answers in there.test.answers],
        "r2": [r2_score(np.eye(2)[labels], scores, multioutput="variance_weighted") for scores in there.test.scores],
    }
    for name, expected in by_hand.items():
        np.testing.assert_allclose(all_measures[name].values(there), expected)


def test_f1_of_a_class_that_is_neither_there_nor_said_counts_for_nothing() -> None:
    there = observed()
    assert there.test is not None
    without = replace(there.test, targets=there.test.targets % 9, answers=there.test.answers % 9)
    expected = [f1_score(without.targets, answers, average="macro") for answers in without.answers]
    np.testing.assert_allclose(measures()["f1_macro"].values(replace(there, test=without)), expected)


def test_what_is_of_two_classes_or_of_least_squares_is_absent_elsewhere() -> None:
    several, regression = observed(), YES_OR_NO.model_copy(update={"task": "regression", "outputs": 1})
    assert measures()["f1_positive"].values(several) is None
    assert measures()["r2"].values(several) is None
    assert all(measures()[name].values(observed(regression)) is None for name in ("f1_macro", "f1_positive", "r2"))
