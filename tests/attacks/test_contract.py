"""What every registered attack that answers with records must do."""

from collections.abc import Sequence
from importlib import import_module

import numpy as np
import pytest
from pydantic import ValidationError

from palimpsest.attacks import CARDS
from palimpsest.attacks.session import answer
from palimpsest.simulator.world.models.kinds import suited, suits
from palimpsest.simulator.world.protocols.attack import Attack
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.queries import QueryAttack
from palimpsest.simulator.world.records import Case, Guess, Reconstruction
from palimpsest.simulator.world.specs import FeatureSpec
from tests.support.eavesdropped import SHORT, ascending, diabetes, digits, forgetting

UNMOVED = ("average", "public-draw")
"""Baselines that read no model."""
RECONSTRUCTIONS = [name for name, card in CARDS.items() if card.promises == "reconstruction"]
SETTINGS = ["ridge", "ridge-features", "softmax", "svm", "regression", "regression-features", "mlp", "cnn"]
DELETIONS = [[0], [1, 2, 3], [4], [5, 6], list(range(10, 33))]


def attack(name: str) -> Attack | QueryAttack:
    module, _, attribute = CARDS[name].target.partition(":")
    made: Attack | QueryAttack = getattr(import_module(module), attribute)(**SHORT.get(name, {}))
    return made


def setting(name: str) -> tuple[list[Case], PublicKnowledge]:
    """Deletions of several sizes and a silent one, with the knowledge that goes with them."""
    kind, _, extra = name.partition("-")
    features = FeatureSpec(dimension=96, bandwidth=4.0, seed=2) if extra else None
    data = diabetes() if kind == "regression" else digits(private=150, public=120)
    spec = data.spec("ridge" if kind == "regression" else kind, 4.0, features)
    if kind in ("mlp", "cnn"):
        cases, knowledge = ascending(data, spec, DELETIONS, 0.1), data.knowledge(spec, "identity", 0.1)
    else:
        cases, knowledge = forgetting(data, spec, DELETIONS), data.knowledge(spec)
    return [*cases, Case(len(cases), 2, cases[0].before, cases[0].before)], knowledge


def run(name: str, cases: Sequence[Case], knowledge: PublicKnowledge) -> list[Guess]:
    return answer(attack(name), cases, knowledge).guesses


def reconstructed(name: str, cases: Sequence[Case], knowledge: PublicKnowledge) -> list[Reconstruction]:
    found = run(name, cases, knowledge)
    assert all(isinstance(one, Reconstruction) for one in found)
    return [one for one in found if isinstance(one, Reconstruction)]


PAIRS = [
    (name, where)
    for name in RECONSTRUCTIONS
    for where in SETTINGS
    if suits(CARDS[name], where.partition("-")[0].replace("regression", "ridge"))
]


@pytest.mark.parametrize("name", CARDS)
def test_the_class_carries_the_card_of_its_name(name: str) -> None:
    made = attack(name)
    assert made.kind == name
    assert made.card is CARDS[name]
    assert (made.card.access is not None) == isinstance(made, QueryAttack)


@pytest.mark.parametrize("name", CARDS)
def test_it_is_frozen_and_refuses_unknown_fields(name: str) -> None:
    made, unknown = attack(name), {"no_such_field": 1}
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, "kind", "other")  # noqa: B010
    with pytest.raises(ValidationError, match="no_such_field"):
        type(made)(**unknown)


@pytest.mark.parametrize(("name", "where"), PAIRS)
def test_every_case_gets_one_finite_answer_of_its_size_in_order(name: str, where: str) -> None:
    cases, knowledge = setting(where)
    found = reconstructed(name, cases, knowledge)
    assert [one.case for one in found] == [case.index for case in cases]
    for case, one in zip(cases, found, strict=True):
        assert one.x.shape == (case.size, knowledge.x.shape[1])
        assert one.y.shape == (case.size,)
        assert one.x.dtype == one.y.dtype == np.float64
        assert np.isfinite(one.x).all()
        assert np.isfinite(one.y).all()
        if knowledge.facts.model.task == "classification":
            assert set(one.y) <= set(range(knowledge.facts.model.outputs))


@pytest.mark.parametrize(("name", "where"), PAIRS)
def test_it_is_deterministic_and_does_not_depend_on_the_order_of_cases(name: str, where: str) -> None:
    cases, knowledge = setting(where)
    first, again = reconstructed(name, cases, knowledge), reconstructed(name, cases, knowledge)
    backwards = {one.case: one for one in reconstructed(name, cases[::-1], knowledge)}
    for one, same in zip(first, again, strict=True):
        assert np.array_equal(one.x, same.x)
        assert np.array_equal(one.y, same.y)
        np.testing.assert_allclose(backwards[one.case].x, one.x, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in RECONSTRUCTIONS if name != "public-draw"])
def test_a_silent_deletion_gets_the_public_mean_flagged(name: str) -> None:
    cases, knowledge = setting(suited(CARDS[name])[0])
    found = reconstructed(name, cases, knowledge)
    np.testing.assert_array_equal(found[-1].x, np.tile(knowledge.mean, (2, 1)))
    assert [one.no_signal for one in found] == [name not in UNMOVED and case.silent for case in cases]
    alone = reconstructed(name, cases[-1:], knowledge)
    np.testing.assert_array_equal(alone[0].x, found[-1].x)


@pytest.mark.parametrize(("name", "where"), [p for p in PAIRS if p[0] not in ("max-difference", "public-draw")])
def test_granted_labels_are_believed(name: str, where: str) -> None:
    """The answer has exactly the labels that were granted (two baselines return public records as they are)."""
    cases, knowledge = setting(where)
    told = [
        Case(case.index, case.size, case.before, case.after, labels=(2.0,) * (case.size - 1) + (7.0,)) for case in cases
    ]
    assert [one.y.tolist() for one in reconstructed(name, told, knowledge)] == [
        list(case.labels or ()) for case in told
    ]


@pytest.mark.parametrize("name", RECONSTRUCTIONS)
def test_released_float32_is_enough(name: str) -> None:
    """Models trained by SGD are released in float32; answers are float64 all the same."""
    if not suits(CARDS[name], "softmax"):
        pytest.skip(f"{name} does not work on softmax")
    cases, knowledge = setting("softmax")
    single = [
        Case(
            case.index,
            case.size,
            {key: value.astype(np.float32) for key, value in case.before.items()},
            {key: value.astype(np.float32) for key, value in case.after.items()},
        )
        for case in cases
    ]
    facts = knowledge.facts.model_copy(update={"model": knowledge.facts.model.model_copy(update={"dtype": "float32"})})
    rounded = PublicKnowledge(facts, knowledge.x, knowledge.y, knowledge.box_low, knowledge.box_high)
    for one, exact in zip(run(name, single, rounded), reconstructed(name, cases, knowledge), strict=True):
        assert one.x.dtype == np.float64
        assert (np.abs(one.x - exact.x) < 0.05).mean() > 0.9
