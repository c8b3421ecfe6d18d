"""Baseline: guess the average, whatever was released."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from palimpsest.attacks import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Labels, Reconstruction
from palimpsest.simulator.world.specs import Frozen


class Average(Frozen):
    """The public mean and the public majority class (or mean target): what a guess is worth without any model."""

    card: ClassVar[Card] = CARDS["average"]
    kind: Literal["average"] = "average"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Give every case the same answer."""
        answers = guesses(cases, knowledge)
        return [answers[case.index] for case in cases]


def guesses(cases: Sequence[Case], knowledge: PublicKnowledge, no_signal: bool = False) -> dict[int, Reconstruction]:
    """``guess`` for every case, by case index."""
    return {case.index: guess(case.index, case.size, case.labels, knowledge, no_signal) for case in cases}


def guess(
    case: int, size: int, labels: tuple[float, ...] | None, knowledge: PublicKnowledge, no_signal: bool = False
) -> Reconstruction:
    """The public mean as often as records were deleted, with granted labels where there are any.

    Args:
        case: its index.
        size: how many records were deleted.
        labels: granted.
        knowledge: the public sample.
        no_signal: whether an attack falls back on this because the models did not differ.
    """
    known = labels if labels is not None else [_typical_label(knowledge)] * size
    x = np.tile(knowledge.mean.astype(np.float64), (size, 1))
    return Reconstruction(case=case, x=x, y=np.array(known, np.float64), no_signal=no_signal)


def shares(case: int, size: int, knowledge: PublicKnowledge) -> Labels:
    """The best guess of ``size`` deleted classes without any model, flagged: in the public sample's proportions."""
    evidence = np.bincount(np.asarray(knowledge.y).astype(np.int64), minlength=knowledge.facts.model.outputs)
    share = evidence / evidence.sum()
    return Labels(case, proportional(share, size), share, no_signal=True)


def proportional(share: Array, size: int) -> Array:
    """``[size]`` ascending classes in the proportions ``share [Q]``, which add up to 1, by the largest remainders."""
    counts = np.floor(size * share).astype(np.int64)
    rest = np.argsort(-(size * share - counts), kind="stable")[: size - counts.sum()]
    counts[rest] += 1
    classes: Array = np.repeat(np.arange(len(share)), counts).astype(np.float64)
    return classes


def _typical_label(knowledge: PublicKnowledge) -> float:
    y: Array = np.asarray(knowledge.y)
    if knowledge.facts.model.task == "regression":
        return float(y.mean())
    return float(np.bincount(y.astype(np.int64)).argmax())
