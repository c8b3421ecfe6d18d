"""Attacks read what they declare, and those that may only ask get answers and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palimpsest.attacks import CARDS
from palimpsest.attacks.queries import Window, reply_of
from palimpsest.attacks.session import access_of, answer, randomness
from palimpsest.simulator.world.protocols.knowledge import FIELDS, Facts, PublicKnowledge
from palimpsest.simulator.world.protocols.queries import QueryAttack, Reply
from palimpsest.simulator.world.records import Array, Case
from palimpsest.simulator.world.specs import ModelSpec
from tests.attacks.test_contract import attack
from tests.attacks.test_inference_contract import setting

QUERIES = [name for name in CARDS if isinstance(attack(name), QueryAttack)]
WATCHED = frozenset().union(*FIELDS.values())
READ: set[str] = set()


def noted(name: str) -> None:
    if name in WATCHED:
        READ.add(name)


class SpecRead(ModelSpec):
    def __getattribute__(self, name: str) -> Any:
        noted(name)
        return super().__getattribute__(name)


class FactsRead(Facts):
    def __getattribute__(self, name: str) -> Any:
        noted(name)
        return super().__getattribute__(name)


class KnowledgeRead(PublicKnowledge):
    def __getattribute__(self, name: str) -> Any:
        noted(name)
        return super().__getattribute__(name)


def recording(knowledge: PublicKnowledge) -> PublicKnowledge:
    """The same knowledge; whoever reads a field of it is noted."""
    about = dict(knowledge.facts)
    about["model"] = SpecRead(**dict(knowledge.facts.model))
    facts = FactsRead(**about)
    k = knowledge
    return KnowledgeRead(facts, k.x, k.y, k.box_low, k.box_high, k.challenge)


class Oracle:
    """Answers questions about one deletion; whatever else is asked of it fails."""

    def __init__(self, case: Case, before: Callable[[Array], Reply], after: Callable[[Array], Reply]) -> None:
        self.index, self.size, self.labels = case.index, case.size, case.labels
        self.before, self.after = before, after

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the attack reached for {name}")


def model_for(name: str) -> str:
    return CARDS[name].models[0] if CARDS[name].models else "softmax"


@pytest.mark.parametrize("name", CARDS)
def test_an_attack_reads_no_knowledge_that_it_does_not_declare(name: str) -> None:
    cases, knowledge = setting(model_for(name))
    watched = recording(knowledge)
    READ.clear()
    answer(attack(name), cases, watched)
    allowed = frozenset().union(*(FIELDS.get(need, frozenset()) for need in attack(name).card.needs))
    assert allowed >= READ


@pytest.mark.parametrize("name", QUERIES)
def test_an_attack_that_may_only_ask_runs_with_the_parameters_withheld(name: str) -> None:
    """Its answers are the same from objects that hold answers alone: tables of what each model said to each record."""
    cases, knowledge = setting(model_for(name))
    made = attack(name)
    assert isinstance(made, QueryAttack)
    asked: dict[tuple[int, str, bytes], Reply] = {}

    def taped(case: Case, window: Window, side: str) -> Callable[[Array], Reply]:
        def ask(x: Array) -> Reply:
            return asked.setdefault((case.index, side, np.asarray(x).tobytes()), getattr(window, side)(x))

        return ask

    windows = [Window(case, knowledge.model, access_of(made)) for case in cases]
    taping = [
        Oracle(case, taped(case, window, "before"), taped(case, window, "after"))
        for case, window in zip(cases, windows, strict=True)
    ]
    first = made.ask(taping, knowledge, randomness("", name))

    def replayed(index: int, side: str) -> Callable[[Array], Reply]:
        return lambda x: asked[index, side, np.asarray(x).tobytes()]

    blind = [Oracle(case, replayed(case.index, "before"), replayed(case.index, "after")) for case in cases]
    del windows, taping
    again = made.ask(blind, knowledge, randomness("", name))
    session = answer(made, cases, knowledge)
    assert session.cost.queries == sum(len(reply.labels) for reply in asked.values())
    for one, same, run in zip(first, again, session.guesses, strict=True):
        for field, value in vars(one).items():
            assert np.array_equal(value, getattr(same, field))
            assert np.array_equal(value, getattr(run, field))


def test_what_is_not_granted_is_withheld() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    full, top, label = (reply_of(scores, access) for access in ("scores", "top-1", "label"))
    assert full.scores is not None
    assert top.scores is None
    assert top.top is not None
    assert top.top.tolist() == [0.7, 0.5]
    assert label.scores is None
    assert label.top is None
    assert [reply.labels.tolist() for reply in (full, top, label)] == [[1, 0]] * 3


def test_attacks_that_read_parameters_ask_nothing_and_say_so() -> None:
    cases, knowledge = setting("ridge")
    assert answer(attack("hrec"), cases, knowledge).cost.queries is None
    cost = answer(attack("probing"), cases, replace(knowledge, x=knowledge.x[:40], y=knowledge.y[:40])).cost
    assert cost.queries == 2 * 40 * len(cases)
    assert cost.seconds > 0
