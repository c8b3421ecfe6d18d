"""Shadows unlearn as the public plan says; the attack that rests on it refuses what they cannot repeat."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from palimpsest.attacks.session import answer, check
from palimpsest.attacks.shadows import Shadow, shadow_of
from palimpsest.attacks.u_lira import ULira
from palimpsest.simulator.testing.transcripts import Data, challenged, digits, forgetting
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case, Challenge, Scores

NETWORK = {"rounds": 2, "clients_per_round": 2, "local_epochs": 1, "batch_size": 8, "learning_rate": 0.5}
FEDAVG: dict[str, Any] = {"algorithm": "fedavg", "operator": "hessian", "training": NETWORK, "clients": 2}
MEMBERS, DELETED = np.arange(40), np.array([[3], [7]])


@cache
def known(kind: str) -> tuple[Data, PublicKnowledge]:
    data = digits(private=40, public=80)
    return data, challenged(data.knowledge(data.spec(kind, 0.1)), data, [[0], [1]])[0]


def under(kind: str, unlearning: dict[str, Any], **facts: Any) -> PublicKnowledge:
    _, knowledge = known(kind)
    return replace(knowledge, facts=knowledge.facts.model_copy(update={"unlearning": unlearning, **facts}))


def central(kind: str, unlearning: dict[str, Any], batch_size: int) -> Shadow:
    """A shadow that plain SGD trains, as the plan has a strategy that shadows do not follow."""
    plan = {**NETWORK, "strategy": "fedadam", "batch_size": batch_size}
    knowledge = under(kind, unlearning, **{**FEDAVG, "training": plan})
    return shadow_of(knowledge, MEMBERS, DELETED, known(kind)[0].held_x[:5], 2, np.random.default_rng(0))


@pytest.mark.parametrize("coupling", ["same-coins", "same-noise"])
def test_a_retraining_that_repeats_coins_or_noise_repeats_the_order(coupling: str) -> None:
    same, other = (central("mlp", {"method": "retrain", "coupling": each}, 4) for each in ("same-order", coupling))
    np.testing.assert_array_equal(other.after, same.after)


def test_a_reshuffled_retraining_shares_the_start_alone_and_an_independent_one_nothing() -> None:
    """In whole batches the order of visits makes no difference; the start does."""
    for batch_size, alike in ((4, False), (64, True)):
        same, shuffled, fresh = (
            central("mlp", {"method": "retrain", "coupling": each}, batch_size).after
            for each in ("same-order", "reshuffled", "independent")
        )
        assert np.allclose(shuffled, same, atol=1e-9) == alike
        assert not np.allclose(fresh, same, atol=1e-3)


def test_where_requests_are_ignored_a_member_is_one_afterwards_as_well() -> None:
    """Its shadows are not retrained, though a defense may have noised the two releases apart."""
    data = digits(private=60, public=600)
    spec = data.spec("ridge", 0.1)
    knowledge, solution = challenged(data.knowledge(spec), data, [[row] for row in range(30)])
    knowledge = replace(knowledge, facts=knowledge.facts.model_copy(update={"unlearning": {"method": "none"}}))
    [case] = forgetting(data, spec, [[0]])
    noise = np.random.default_rng(1)
    after = {name: value + 1e-5 * noise.standard_normal(value.shape) for name, value in case.before.items()}
    [scores] = answer(ULira(), [replace(case, after=after)], knowledge).guesses
    assert isinstance(scores, Scores)
    assert scores.member_after is not None
    assert roc_auc_score(solution >= 0, scores.member_after) > 0.8
    np.testing.assert_array_equal(np.isfinite(scores.deleted), True)


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("mlp", {"method": "not", "rounds": 2}, {**FEDAVG, "operator": "unknown"}, "by .* or none, not by 'not'"),
    ("mlp", {"method": "puf"}, {**FEDAVG, "operator": "identity"}, "not by 'puf'"),
    ("softmax", {"method": "sifu"}, FEDAVG, "not by 'sifu'"),
    ("mlp", {}, {**FEDAVG, "operator": "unknown"}, "not by 'a rule that is not told'"),
    ("mlp", {"method": "finetune"}, {**FEDAVG, "operator": "unknown"}, "rounds of training and of fine-tuning"),
    ("softmax", {"method": "finetune", "rounds": 2}, {**FEDAVG, "operator": "unknown"}, "networks of fedavg"),
]


@pytest.mark.parametrize(("kind", "unlearning", "facts", "why"), REFUSED)
def test_a_rule_that_shadows_cannot_carry_out_is_refused_in_one_sentence(
    kind: str, unlearning: dict[str, Any], facts: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=f"^attack u-lira has models of its own unlearn as this one did: .*{why}"):
        check([ULira()], under(kind, unlearning, **facts))


@pytest.mark.parametrize(
    ("kind", "unlearning", "facts"),
    [
        ("mlp", {"method": "retrain", "coupling": "same-coins"}, FEDAVG),
        ("mlp", {"method": "finetune", "rounds": 2}, {**FEDAVG, "operator": "unknown"}),
        ("mlp", {}, {**FEDAVG, "operator": "identity"}),
        ("ridge", {"method": "somebody's"}, {}),
        ("softmax", {"method": "none"}, FEDAVG),
    ],
)
def test_a_rule_that_they_can_is_not(kind: str, unlearning: dict[str, Any], facts: dict[str, Any]) -> None:
    check([ULira()], under(kind, unlearning, **facts))


def test_a_single_record_to_judge_is_refused() -> None:
    data, knowledge = known("ridge")
    model = {name: np.zeros(shape) for name, shape in knowledge.model.shapes.items()}
    alone = replace(knowledge, challenge=Challenge(data.x[:1], data.y[:1]))
    with pytest.raises(ValueError, match="half of the records asked about: there must be two at least"):
        answer(ULira(), [Case(0, 1, model, model)], alone)
