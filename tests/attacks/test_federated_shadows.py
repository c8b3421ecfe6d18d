"""Shadow networks: trained and unlearned as is done here by hand, and what they tell of records learned by heart."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from palimpsest.attacks.federated_shadows import FederatedShadows, ShadowRows, Stacked
from palimpsest.attacks.session import answer
from palimpsest.attacks.shadow_rules import by_rounds
from palimpsest.attacks.u_lira import ULira
from palimpsest.simulator.testing.transcripts import Data, challenged, digits
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Params, Scores
from palimpsest.simulator.world.specs import ModelOptions

PLAN = {"rounds": 4, "clients_per_round": 3, "local_epochs": 1, "batch_size": 64, "learning_rate": 0.5}
SHADOW = ShadowRows(np.arange(10, 50), np.array([[12], [30]]))


def known(data: Data, unlearning: dict[str, Any], plan: dict[str, Any], operator: str = "unknown") -> PublicKnowledge:
    spec = data.spec("mlp", 0.1).model_copy(update={"options": ModelOptions({"hidden": 64})})
    knowledge = data.knowledge(spec, operator, step=0.25)
    facts = {"algorithm": "fedavg", "training": plan, "unlearning": unlearning, "clients": 3}
    return replace(knowledge, facts=knowledge.facts.model_copy(update=facts))


def descended(start: Params, x: Array, y: Array, steps: int, l2: float, rate: float = 0.5) -> Params:
    """Gradient descent on the mean loss of an mlp, by automatic differentiation."""
    params = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    for _ in range(steps):
        hidden = torch.relu(torch.tensor(x) @ params["0.weight"].T + params["0.bias"])
        scores = hidden @ params["2.weight"].T + params["2.bias"]
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor(y))
        loss = loss + 0.5 * l2 * sum((value**2).sum() for value in params.values())
        slopes = torch.autograd.grad(loss, list(params.values()))
        moved = zip(params.items(), slopes, strict=True)
        params = {name: (value - rate * slope).detach().requires_grad_() for (name, value), slope in moved}
    return {name: value.detach().numpy() for name, value in params.items()}


def shown(params: Params, x: Array) -> Array:
    hidden = np.maximum(x @ params["0.weight"].T + params["0.bias"], 0.0)
    probabilities: Array = softmax(hidden @ params["2.weight"].T + params["2.bias"], axis=1)
    return probabilities


class FromHere(FederatedShadows):
    """Shadows that all start from one model."""

    def _start(self) -> Stacked:
        drawn = self._model.init(np.random.default_rng(3))
        return {name: torch.tensor(value)[None] for name, value in drawn.items()}


@pytest.mark.parametrize(
    ("rule", "again"),
    [({"method": "retrain", "coupling": "same-order"}, 4), ({"method": "finetune", "rounds": 2}, 2)],
)
def test_rounds_over_whole_clients_are_gradient_descent_with_and_without_the_record(
    rule: dict[str, Any], again: int
) -> None:
    data = digits(private=60, public=200)
    knowledge = known(data, rule, PLAN)
    asked, l2 = data.held_x[:5], 0.1 / 60
    (shadow,) = FromHere(knowledge, asked, np.random.default_rng(0)).of([SHADOW])
    start = knowledge.model.init(np.random.default_rng(3))
    x, y = (np.asarray(each)[SHADOW.members] for each in (knowledge.x, knowledge.y))
    trained = descended(start, x, y, 4, l2)
    np.testing.assert_allclose(shadow.before, shown(trained, asked), atol=1e-9)
    for gone, after in zip(SHADOW.deleted, shadow.after, strict=True):
        kept = ~np.isin(SHADOW.members, gone)
        begin = trained if rule["method"] == "finetune" else start
        np.testing.assert_allclose(after, shown(descended(begin, x[kept], y[kept], again, l2), asked), atol=1e-9)


def test_a_step_up_is_the_sum_of_the_records_gradients() -> None:
    data = digits(private=60, public=200)
    knowledge = known(data, {"method": "ascent"}, PLAN, operator="identity")
    (shadow,) = FromHere(knowledge, data.held_x[:5], np.random.default_rng(0)).of([SHADOW])
    x, y = (np.asarray(each)[SHADOW.members] for each in (knowledge.x, knowledge.y))
    trained = descended(knowledge.model.init(np.random.default_rng(3)), x, y, 4, 0.1 / 60)
    for (gone,), after in zip(SHADOW.deleted, shadow.after, strict=True):
        of_record = np.asarray(knowledge.x)[[gone]], np.asarray(knowledge.y)[[gone]]
        climbed = descended(trained, *of_record, 1, 0.0, -0.25)
        np.testing.assert_allclose(after, shown(climbed, data.held_x[:5]), atol=1e-9)


def test_clients_that_sit_out_a_round_change_nothing_and_a_fresh_order_starts_anew() -> None:
    data = digits(private=60, public=200)
    knowledge = known(data, {"method": "retrain", "coupling": "independent"}, {**PLAN, "clients_per_round": 1})
    (shadow,) = FederatedShadows(knowledge, data.held_x[:5], np.random.default_rng(0)).of([SHADOW])
    assert shadow.after.shape == (2, 5, 10)
    np.testing.assert_allclose(shadow.before.sum(axis=-1), 1.0)
    assert np.abs(shadow.after - shadow.before).max() > 0.01


def test_batches_that_no_client_can_fill_take_no_memory() -> None:
    """Padded as they were given, one of them would take 8 GB for its places alone."""
    data, rule = digits(private=60, public=200), {"method": "retrain", "coupling": "same-order"}
    answers = []
    for batch_size in (64, 10**9):
        knowledge = known(data, rule, {**PLAN, "batch_size": batch_size})
        answers.append(FromHere(knowledge, data.held_x[:5], np.random.default_rng(0)).of([SHADOW])[0])
    np.testing.assert_allclose(answers[1].before, answers[0].before, atol=1e-9)
    np.testing.assert_allclose(answers[1].after, answers[0].after, atol=1e-9)


def test_everybody_takes_part_at_rate_1_and_nearly_nobody_at_a_small_one() -> None:
    data, rule = digits(private=60, public=200), {"method": "retrain", "coupling": "same-order"}
    asked, plan = data.held_x[:5], {**PLAN, "clients_per_round": 1}

    def before(rate: float) -> Array:
        knowledge = known(data, rule, {**plan, "sampling": {"scheme": "poisson", "rate": rate}})
        return FromHere(knowledge, asked, np.random.default_rng(0)).of([SHADOW])[0].before

    start = known(data, rule, plan).model.init(np.random.default_rng(3))
    x, y = data.public_x[SHADOW.members], data.public_y[SHADOW.members]
    np.testing.assert_allclose(before(1.0), shown(descended(start, x, y, 4, 0.1 / 60), asked), atol=1e-9)
    np.testing.assert_allclose(before(1e-12), shown(start, asked), atol=1e-9)


@pytest.mark.parametrize("coupling", ["same-order", "same-coins", "same-noise", "reshuffled"])
def test_a_coupled_retraining_has_the_shadows_start_and_cohorts(coupling: str) -> None:
    """Whole clients are a batch each, so that the order of visits makes no difference; who takes part does."""
    data, plan = digits(private=60, public=200), {**PLAN, "clients_per_round": 1}
    knowledge = known(data, {"method": "retrain", "coupling": coupling}, plan)
    nobody = ShadowRows(SHADOW.members, np.array([[199]]))  # no member, so that nothing is forgotten
    (shadow,) = FederatedShadows(knowledge, data.held_x[:5], np.random.default_rng(0)).of([nobody])
    np.testing.assert_allclose(shadow.after[0], shadow.before, atol=1e-9)


@pytest.mark.parametrize(("coupling", "same"), [("same-coins", True), ("reshuffled", False)])
def test_only_a_reshuffled_retraining_visits_records_in_a_fresh_order(coupling: str, same: bool) -> None:
    data = digits(private=60, public=200)
    knowledge = known(data, {"method": "retrain", "coupling": coupling}, {**PLAN, "batch_size": 4})
    nobody = ShadowRows(SHADOW.members, np.array([[199]]))
    (shadow,) = FederatedShadows(knowledge, data.held_x[:5], np.random.default_rng(0)).of([nobody])
    assert np.allclose(shadow.after[0], shadow.before, atol=1e-9) == same


def test_the_proximal_term_of_fedprox_holds_clients_near_the_global_model() -> None:
    data, rule = digits(private=60, public=200), {"method": "retrain", "coupling": "same-order"}
    asked = data.held_x[:5]
    plan = {**PLAN, "local_epochs": 5}
    start = shown(known(data, rule, plan).model.init(np.random.default_rng(3)), asked)
    moved = []
    for changes in ({}, {"strategy": "fedprox", "proximal_mu": 1.0}):
        knowledge = known(data, rule, {**plan, **changes})
        assert by_rounds(knowledge)
        (shadow,) = FromHere(knowledge, asked, np.random.default_rng(0)).of([SHADOW])
        moved.append(np.abs(shadow.before - start).sum())
    assert moved[1] < 0.9 * moved[0]


@pytest.mark.parametrize(
    "otherwise",
    [
        {"strategy": "fedadam"},
        {"strategy": "fedprox"},
        {"schedule": "cosine"},
        {"schedule": "exponential", "decay": 0.5},
        {"start": "public"},
        {"shards": 2},
    ],
)
def test_a_plan_that_they_cannot_follow_does_not_suit(otherwise: dict[str, Any]) -> None:
    data, rule = digits(private=60, public=200), {"method": "retrain", "coupling": "same-order"}
    plain = {"strategy": "fedavg", "schedule": "constant", "decay": 0.99, "start": "random", "shards": 1}
    assert by_rounds(known(data, rule, PLAN))
    assert by_rounds(known(data, rule, {**PLAN, **plain}))
    assert not by_rounds(known(data, rule, {**PLAN, **plain, **otherwise}))


ROUNDS, RATE, COUNT = 120, 1.0, 12
BY_HEART = {"rounds": ROUNDS, "clients_per_round": 3, "local_epochs": 1, "batch_size": 16, "learning_rate": RATE}


@cache
def of_random_labels(forgets: bool) -> tuple[list[Scores], Array]:
    """Answers for an mlp that knows labels by heart which nothing tells; either retrained, or left nearly as it was."""
    data, rng = digits(private=40, public=80), np.random.default_rng(1)
    y, public_y, held_y = (rng.integers(0, 10, count) for count in (40, 80, 28))
    data = Data(data.schema, data.x, y, data.public_x, public_y, data.held_x[:28], held_y)
    rule = {"method": "retrain", "coupling": "independent"} if forgets else {"method": "finetune", "rounds": 1}
    knowledge, solution = challenged(known(data, rule, BY_HEART), data, [[row] for row in range(COUNT)])
    model, l2 = model_of(knowledge.facts.model), 0.1 / 40
    trained = descended(model.init(rng), data.x, y, ROUNDS, l2, RATE)
    assert (shown(trained, data.x).argmax(axis=1) == y).all()  # by heart, or there would be nothing to find
    cases = []
    for row in range(COUNT):
        kept = np.delete(np.arange(40), row)
        begin, steps = (model.init(rng), ROUNDS) if forgets else (trained, 1)
        cases.append(Case(row, 1, trained, descended(begin, data.x[kept], y[kept], steps, l2, RATE)))
    found = answer(ULira(shadows=16, deletions=5), cases, knowledge).guesses
    return [each for each in found if isinstance(each, Scores)], solution


@pytest.mark.parametrize("forgets", [True, False])
def test_what_a_network_knew_by_heart_is_seen_to_go_or_to_stay(forgets: bool) -> None:
    answers, solution = of_random_labels(forgets)
    held_out = solution < 0

    def found(field: str) -> float:
        """Area under the curve of each case's deleted record against those that never were there."""
        scores = [getattr(each, field) for each in answers]
        own = np.concatenate([of_case[solution == i] for i, of_case in enumerate(scores)])
        others = np.concatenate([of_case[held_out] for of_case in scores])
        return float(roc_auc_score(np.repeat([1, 0], [len(own), len(others)]), np.concatenate([own, others])))

    assert found("member_before") > 0.9
    if forgets:
        assert found("deleted") > 0.9
        assert found("member_after") == pytest.approx(0.5, abs=0.2)
    else:
        assert found("member_after") > 0.9
