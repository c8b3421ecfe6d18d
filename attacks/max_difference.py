"""Baseline: the public record whose prediction changed most."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guesses
from palimpsest.attacks.linear import public_blocks, side_by_side, thetas
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Reconstruction
from palimpsest.simulator.world.specs import Frozen

_TOGETHER = 128
"""Cases that are compared at once: a change for each of them, class and public record is in memory."""


class MaxDifference(Frozen):
    """The k public records whose scores changed most (L2), labels included (Bertran et al., NeurIPS 2024).

    Where more records were deleted than the public sample holds, it is gone through again from the start.
    """

    card: ClassVar[Card] = CARDS["max-difference"]
    kind: Literal["max-difference"] = "max-difference"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Compare all models on the whole public sample."""
        loud = [case for case in cases if not case.silent]
        answers = guesses([case for case in cases if case.silent], knowledge, no_signal=True)
        for some in (loud[begin : begin + _TOGETHER] for begin in range(0, len(loud), _TOGETHER)):
            for case, change in zip(some, _changes(some, knowledge), strict=True):
                answers[case.index] = _most_changed(case, knowledge, change)
        return [answers[case.index] for case in cases]


def _most_changed(case: Case, knowledge: PublicKnowledge, change: Array) -> Reconstruction:
    order = np.argsort(-change, kind="stable")[: case.size]
    chosen = np.resize(order, case.size)
    y = np.asarray(knowledge.y, np.float64)[chosen]
    return Reconstruction(case=case.index, x=np.asarray(knowledge.x, np.float64)[chosen], y=y)


def _changes(cases: Sequence[Case], knowledge: PublicKnowledge) -> Array:
    """``[c, m]`` L2 change of every public record's scores."""
    model = knowledge.model
    if not model.linear:
        return np.stack(
            [
                np.linalg.norm(model.predict(case.before, knowledge.x) - model.predict(case.after, knowledge.x), axis=1)
                for case in cases
            ]
        )
    before, after = thetas(cases)
    count, _, outputs = before.shape
    stacked = side_by_side(before - after)
    blocks = [
        (phi @ stacked).view(-1, count, outputs).norm(dim=2).T for phi, _ in public_blocks(knowledge, count * outputs)
    ]
    return torch.cat(blocks, 1).numpy()
