"""Attacks read what they declare, and those that may only ask get answers and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from palimpsest.attacks import CARDS
from palimpsest.attacks.queries import reply_of
from palimpsest.attacks.session import answer
from palimpsest.simulator.testing import attacks
from palimpsest.simulator.testing.knowledge import check_knowledge, check_questions
from palimpsest.simulator.world.protocols.queries import QueryAttack
from tests.attacks.test_contract import attack
from tests.support import short

QUERIES = [name for name in CARDS if isinstance(attack(name), QueryAttack)]


@pytest.fixture(autouse=True)
def little_practice(monkeypatch: pytest.MonkeyPatch) -> None:
    short.little_practice(monkeypatch)


@pytest.mark.parametrize("name", CARDS)
def test_an_attack_reads_no_knowledge_that_it_does_not_declare(name: str) -> None:
    check_knowledge(name, attack(name), *attacks.situation(attacks.first_place(name)))


def test_an_attack_that_reads_more_than_the_card_declares_is_named() -> None:
    with pytest.raises(AssertionError, match=r"^average: it reads .*which its card does not declare"):
        check_knowledge("average", attack("hrec"), *attacks.situation("ridge"))


@pytest.mark.parametrize("name", QUERIES)
def test_an_attack_that_may_only_ask_runs_with_the_parameters_withheld(name: str) -> None:
    check_questions(name, attack(name), *attacks.situation(attacks.first_place(name)))


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
    cases, knowledge = attacks.situation("ridge")
    assert answer(attack("hrec"), cases, knowledge).cost.queries is None
    cost = answer(attack("probing"), cases, replace(knowledge, x=knowledge.x[:40], y=knowledge.y[:40])).cost
    assert cost.queries == 2 * 40 * len(cases)
    assert cost.seconds > 0
