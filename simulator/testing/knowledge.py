"""Attacks read what they declare, and those that may only ask get answers and nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from palimpsest.attacks.queries import Window
from palimpsest.attacks.session import access_of, answer, randomness
from palimpsest.simulator.scenario.registry import card
from palimpsest.simulator.world.protocols.knowledge import FIELDS, Facts, PublicKnowledge
from palimpsest.simulator.world.protocols.queries import Reply
from palimpsest.simulator.world.records import Array, Case
from palimpsest.simulator.world.specs import ModelSpec

_WATCHED = frozenset().union(*FIELDS.values())
_READ: set[str] = set()


def check_knowledge(name: str, made: Any, cases: Sequence[Case], knowledge: PublicKnowledge) -> None:
    """It reads no knowledge that its card does not declare under ``needs``."""
    watched = _recording(knowledge)
    _READ.clear()
    answer(made, cases, watched)
    allowed = frozenset().union(*(FIELDS.get(need, frozenset()) for need in card("attack", name).needs))
    assert allowed >= _READ, f"{name}: it reads {', '.join(sorted(_READ - allowed))}, which its card does not declare"


def check_questions(name: str, made: Any, cases: Sequence[Case], knowledge: PublicKnowledge) -> None:
    """An attack that may only ask gets the same from tables of what each model said to each record, and nothing else.

    ``cost.queries`` counts every different record that a model was asked about.
    """
    asked: dict[tuple[int, str, bytes], Reply] = {}
    access = access_of(made)

    def taped(case: Case, window: Window, side: str) -> Callable[[Array], Reply]:
        def ask(x: Array) -> Reply:
            return asked.setdefault((case.index, side, np.asarray(x).tobytes()), getattr(window, side)(x))

        return ask

    taping = []
    for case in cases:
        window = Window(case, knowledge.model, access)
        taping.append(_Oracle(case, taped(case, window, "before"), taped(case, window, "after")))
    first = made.ask(taping, knowledge, randomness("", name))

    def replayed(index: int, side: str) -> Callable[[Array], Reply]:
        return lambda x: asked[index, side, np.asarray(x).tobytes()]

    blind = [_Oracle(case, replayed(case.index, "before"), replayed(case.index, "after")) for case in cases]
    again = made.ask(blind, knowledge, randomness("", name))
    session = answer(made, cases, knowledge)
    counted = sum(len(reply.labels) for reply in asked.values())
    assert session.cost.queries == counted, f"{name}: {session.cost.queries} queries were counted, {counted} were made"
    for guess, *others in zip(first, again, session.guesses, strict=True):
        for field, value in vars(guess).items():
            equal = all(np.array_equal(value, getattr(other, field)) for other in others)
            assert equal, f"{name}: its answer depends on more than the replies"


class _Oracle:
    """Answers questions about one deletion; whatever else is asked of it fails."""

    def __init__(self, case: Case, before: Callable[[Array], Reply], after: Callable[[Array], Reply]) -> None:
        self.index, self.size, self.labels = case.index, case.size, case.labels
        self.before, self.after = before, after

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the attack reached for {name}")


def _noted(name: str) -> None:
    if name in _WATCHED:
        _READ.add(name)


class _SpecRead(ModelSpec):
    def __getattribute__(self, name: str) -> Any:
        _noted(name)
        return super().__getattribute__(name)


class _FactsRead(Facts):
    def __getattribute__(self, name: str) -> Any:
        _noted(name)
        return super().__getattribute__(name)


class _KnowledgeRead(PublicKnowledge):
    def __getattribute__(self, name: str) -> Any:
        _noted(name)
        return super().__getattribute__(name)


def _recording(knowledge: PublicKnowledge) -> PublicKnowledge:
    """The same knowledge; whoever reads a field of it is noted."""
    about = dict(knowledge.facts)
    about["model"] = _SpecRead(**dict(knowledge.facts.model))
    k = knowledge
    return _KnowledgeRead(_FactsRead(**about), k.x, k.y, k.box_low, k.box_high, k.challenge)
