"""What every registered attack on classes or on given records must do."""

from collections.abc import Sequence

import numpy as np
import pytest

from palimpsest.attacks import CARDS
from palimpsest.simulator.world.models.kinds import suits
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case, Labels, Scores
from tests.attacks.test_contract import DELETIONS, SETTINGS, run
from tests.support.eavesdropped import ascending, challenged, diabetes, digits, forgetting

INFERENCES = [name for name, card in CARDS.items() if card.promises in ("labels", "scores")]
PAIRS = [
    (name, where)
    for name in INFERENCES
    for where in SETTINGS
    if suits(CARDS[name], where.partition("-")[0].replace("regression", "ridge"))
    and not ("classes" in CARDS[name].needs and where.startswith("regression"))
]


def setting(name: str) -> tuple[list[Case], PublicKnowledge]:
    """Deletions of several sizes and a silent one, with a challenge."""
    kind = name.partition("-")[0]
    data = diabetes() if kind == "regression" else digits(private=150, public=120)
    spec = data.spec("ridge" if kind == "regression" else kind, 4.0)
    if kind in ("mlp", "cnn"):
        cases, knowledge = ascending(data, spec, DELETIONS, 0.1), data.knowledge(spec, "identity", 0.1)
    else:
        cases, knowledge = forgetting(data, spec, DELETIONS), data.knowledge(spec)
    asked, _ = challenged(knowledge, data, DELETIONS)
    return [*cases, Case(len(cases), 2, cases[0].before, cases[0].before)], asked


def answers(name: str, cases: Sequence[Case], knowledge: PublicKnowledge) -> list[Labels | Scores]:
    found = run(name, cases, knowledge)
    assert all(isinstance(one, Labels if CARDS[name].promises == "labels" else Scores) for one in found)
    return [one for one in found if isinstance(one, Labels | Scores)]


def numbers(one: Labels | Scores) -> np.ndarray:
    return one.evidence if isinstance(one, Labels) else one.deleted


@pytest.mark.parametrize(("name", "where"), [p for p in PAIRS if "features" not in p[1]])
def test_every_case_gets_one_finite_answer_of_its_form_in_order(name: str, where: str) -> None:
    cases, knowledge = setting(where)
    found = answers(name, cases, knowledge)
    assert knowledge.challenge is not None
    assert [one.case for one in found] == [case.index for case in cases]
    for case, one in zip(cases, found, strict=True):
        assert np.isfinite(numbers(one)).all()
        assert one.no_signal or not case.silent
        assert case.silent or not one.no_signal or name == "probing-label"  # labels may stay what they were
        if isinstance(one, Labels):
            assert one.evidence.shape == (knowledge.facts.model.outputs,)
            assert one.y.shape == (case.size,)
            assert (np.diff(one.y) >= 0).all()
            assert set(one.y) <= set(range(knowledge.facts.model.outputs))
        else:
            entries = (len(knowledge.challenge.y),)
            given = [part for part in (one.deleted, one.member_before, one.member_after) if part is not None]
            assert all(part.shape == entries and np.isfinite(part).all() for part in given)


@pytest.mark.parametrize(("name", "where"), [p for p in PAIRS if p[1] in ("softmax", "cnn")])
def test_it_is_deterministic_and_does_not_depend_on_the_order_of_cases(name: str, where: str) -> None:
    cases, knowledge = setting(where)
    first, again = answers(name, cases, knowledge), answers(name, cases, knowledge)
    backwards = {one.case: one for one in answers(name, cases[::-1], knowledge)}
    for one, same in zip(first, again, strict=True):
        assert np.array_equal(numbers(one), numbers(same))
        np.testing.assert_allclose(numbers(backwards[one.case]), numbers(one), rtol=1e-6, atol=1e-9)
