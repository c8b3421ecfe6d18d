"""What holds of every distance of two models, and of every measure of one."""

from dataclasses import replace

import numpy as np
import pytest

from palimpsest.simulator.testing.servers import SOFTMAX
from palimpsest.simulator.unlearning_metrics.evaluation import Evaluated
from palimpsest.simulator.unlearning_metrics.measures import CARDS, DISTANCE_CARDS, distances, measures
from palimpsest.simulator.unlearning_metrics.measures.measure import Observed, Portrait, Retained
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import DeletionRequest

MODELS, TEST, FORGOTTEN, CLIENTS = 3, 2000, 4, 5


def params(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"weight": rng.normal(size=(10, 64)), "bias": rng.normal(size=10)}


def portrait(seed: int) -> Portrait:
    scores = np.random.default_rng(seed + 100).normal(size=(50, 10))
    return Portrait(params(seed), {}, None, scores)


def judged(count: int) -> Evaluated:
    rng = np.random.default_rng(count)
    scores = rng.normal(size=(MODELS, count, 10))
    return Evaluated(rng.random(MODELS), rng.random((MODELS, count)), scores, scores.argmax(-1))


def observed() -> Observed:
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
        case, model_of(SOFTMAX), models, judged(FORGOTTEN), retained, judged(TEST), TEST, ranks, rng.random(MODELS)
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
    there = observed()
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


@pytest.mark.parametrize("name", ["utility", "membership_auc", "membership_tpr_at_1_percent", "backdoor_success"])
def test_what_needs_records_that_are_not_there_does_not_apply(name: str) -> None:
    assert measures()[name].values(replace(observed(), test=None, ranks=None, held_out=0, backdoor=None)) is None


def test_a_rate_that_test_records_are_too_few_for_is_absent() -> None:
    few = replace(observed(), held_out=500)
    assert measures()["membership_tpr_at_1_percent"].values(few) is not None
    assert measures()["membership_tpr_at_01_percent"].values(few) is None
