"""Which classes were deleted, by asking alone (Hu et al., IEEE S&P 2024)."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import proportional, shares
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.queries import QueriedCase, Reply
from palimpsest.simulator.world.records import Array, Labels
from palimpsest.simulator.world.specs import Frozen


class _Probing(Frozen):
    """Ask both models about probes of each class; the class that loses most was deleted."""

    def ask(self, cases: Sequence[QueriedCase], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Labels]:
        """Probe one deletion after the other, all with the same probes where they do not depend on the model."""
        seed = int(rng.integers(2**31))
        return [_answer(case, self._losses(case, knowledge, np.random.default_rng(seed)), knowledge) for case in cases]

    def _losses(self, case: QueriedCase, knowledge: PublicKnowledge, rng: np.random.Generator) -> Array:
        """``[Q]`` how much each class has lost."""
        raise NotImplementedError


class Probing(_Probing):
    """All scores: the mean drop of a class's score over public records that the first model takes for it.

    A score is measured against the mean of its record's scores, on the scale of logits where the model answers with
    probabilities: on that scale a confident answer drops as much as any other. The paper synthesises probes on which
    the model is confident; here the public records serve.
    """

    card: ClassVar[Card] = CARDS["probing"]
    kind: Literal["probing"] = "probing"

    def _losses(self, case: QueriedCase, knowledge: PublicKnowledge, rng: np.random.Generator) -> Array:
        before, after = case.before(knowledge.x), case.after(knowledge.x)
        assert before.scores is not None
        assert after.scores is not None
        drop = _centred(before.scores, knowledge) - _centred(after.scores, knowledge)
        true_class = np.take_along_axis(drop, before.labels[:, None], 1)[:, 0]
        return _mean_by_class(true_class, before.labels, knowledge)


class ProbingTop1(_Probing):
    """The predicted class and its score: the mean drop over public records of that class.

    Where the second model takes a record for another class, the score of the first one is at most what is left over.
    """

    card: ClassVar[Card] = CARDS["probing-top1"]
    kind: Literal["probing-top1"] = "probing-top1"

    def _losses(self, case: QueriedCase, knowledge: PublicKnowledge, rng: np.random.Generator) -> Array:
        before, after = case.before(knowledge.x), case.after(knowledge.x)
        assert before.top is not None
        assert after.top is not None
        same = before.labels == after.labels
        left = np.where(same, after.top, np.minimum(after.top, 1.0 - after.top))
        return _mean_by_class(_scale(before.top, knowledge) - _scale(left, knowledge), before.labels, knowledge)


class ProbingLabel(_Probing):
    """The predicted class alone: how far the borders between classes move.

    On the way from one public record to another of another class lies a border of the first one's class, which halving
    finds in either model. Evidence for a class is by how much its ways have become shorter, less by how much those of
    others have that end at it, both on average and as shares of the way (beyond the paper, whose probes stay put).

    Attributes:
        borders: how many.
        halvings: for each border and model.
    """

    card: ClassVar[Card] = CARDS["probing-label"]
    kind: Literal["probing-label"] = "probing-label"
    borders: int = Field(default=500, ge=1)
    halvings: int = Field(default=20, ge=1)

    def _losses(self, case: QueriedCase, knowledge: PublicKnowledge, rng: np.random.Generator) -> Array:
        public = np.asarray(knowledge.x, np.float64)
        said = case.before(public).labels
        first, second = (rng.integers(0, len(public), 4 * self.borders) for _ in range(2))
        apart = np.flatnonzero(said[first] != said[second])[: self.borders]
        start, end, mine = public[first[apart]], public[second[apart]], said[first[apart]]
        here, beyond = self._border(case.before, start, end, mine)
        there, _ = self._border(case.after, start, end, mine)
        shorter = here - there
        losses: Array = _mean_by_class(shorter, mine, knowledge) - _mean_by_class(shorter, beyond, knowledge)
        return losses

    def _border(self, ask: Callable[[Array], Reply], start: Array, end: Array, mine: Array) -> tuple[Array, Array]:
        """``[b]`` where on each way the class ends that it starts with, and the class beyond, by one model."""
        low, high, beyond = np.zeros(len(mine)), np.ones(len(mine)), mine.copy()
        for _ in range(self.halvings):
            middle = 0.5 * (low + high)
            said = ask(start + middle[:, None] * (end - start)).labels
            stays = said == mine
            low, high = np.where(stays, middle, low), np.where(stays, high, middle)
            beyond = np.where(stays, beyond, said)
        return high, beyond


def _answer(case: QueriedCase, losses: Array, knowledge: PublicKnowledge) -> Labels:
    """Classes in proportion to what they lost; granted labels are believed."""
    if not losses.any():
        return shares(case.index, case.size, knowledge)
    lost = np.maximum(losses - np.sort(losses)[-2] * (case.size == 1), 0.0)
    y = proportional(lost / lost.sum(), case.size) if lost.sum() > 0.0 else np.full(case.size, float(losses.argmax()))
    return Labels(case.index, y if case.labels is None else np.array(case.labels, np.float64), losses)


def _scale(top: Array, knowledge: PublicKnowledge) -> Array:
    """Log-odds of probabilities; other scores as they are."""
    if not knowledge.model.probabilities:
        return top
    inside = np.clip(top, 1e-12, 1.0 - 1e-12)
    odds: Array = np.log(inside) - np.log1p(-inside)
    return odds


def _centred(scores: Array, knowledge: PublicKnowledge) -> Array:
    """Scores, or logarithms of probabilities, less each record's mean."""
    level = np.log(np.maximum(scores, 1e-300)) if knowledge.model.probabilities else scores
    centred: Array = level - level.mean(axis=1, keepdims=True)
    return centred


def _mean_by_class(values: Array, labels: Array, knowledge: PublicKnowledge) -> Array:
    outputs = knowledge.facts.model.outputs
    means: Array = np.bincount(labels, values, outputs) / np.maximum(np.bincount(labels, minlength=outputs), 1)
    return means
