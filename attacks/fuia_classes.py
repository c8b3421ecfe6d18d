"""Classes of what was forgotten, from the messages of a federated unlearning, by the server that receives them."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import shares
from palimpsest.attacks.class_score import classes_of
from palimpsest.attacks.divergence import single_step
from palimpsest.attacks.fuia import ToldCase, as_told, combined, moved
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case, Labels, Message
from palimpsest.simulator.world.specs import Frozen


class FuiaClasses(Frozen):
    """The last layer's change between the leaver's messages, class by class (FUIA; Zhou and Zhu, 2502.14558).

    For a record or a class that is forgotten the change is that of ``fuia``: the leaver's message before against the
    one after. Where the client leaves whole there is none after, and its own training message is the gradient of
    exactly what it takes away. The paper names a class by the score that ``class-score`` has (``signed_shares``), and
    so is one record named here; of several the classes are those that add up best to the change, as there, which for a
    client is its histogram of classes. A sum over a cohort tells nothing of a client that leaves whole. Granted labels
    are believed. Where no message differs: the public sample's shares, flagged. Guarantee: none.
    """

    card: ClassVar[Card] = CARDS["fuia-classes"]
    kind: Literal["fuia-classes"] = "fuia-classes"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Labels]:
        """Answer all cases."""
        told = {case.index: heard for case in cases if (heard := self._told(case, knowledge)) is not None}
        found = {case.index: shares(case.index, case.size, knowledge) for case in cases if case.index not in told}
        for case in told.values():
            found |= classes_of([case], _with_length(knowledge, case))
        return [found[case.index] for case in cases]

    def _told(self, case: Case, knowledge: PublicKnowledge) -> ToldCase | None:
        own = whole(case)
        if own is None:
            return as_told(case, knowledge)
        if own.kind == "gradient":
            return moved(case, own.start, combined([(1.0, own)]), factor=1.0)
        change = combined([(-1.0, own)])
        if single_step(knowledge):
            return moved(case, own.start, change, factor=knowledge.facts.training["learning_rate"] / own.weight)
        end = {name: np.asarray(value, np.float64) + own.sent[name] for name, value in own.start.items()}
        return moved(case, own.start, change, toward=end)


def whole(case: Case) -> Message | None:
    """The first training message of a client that takes all its records away; None where none is heard."""
    training = [message for message in case.messages if message.phase == "training"]
    leavers = set(case.clients or ())
    return next(
        (m for m in training if len(m.clients) == 1 and set(m.clients) == leavers and m.weight == case.size), None
    )


def _with_length(knowledge: PublicKnowledge, case: ToldCase) -> PublicKnowledge:
    """The knowledge with the step that a message was taken with, where that is known: the change has a length then."""
    return knowledge.under_rule("identity", case.factor) if case.factor else knowledge.under_rule("unknown", 1.0)
