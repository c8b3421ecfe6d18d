"""Baseline: guess the average, whatever was released."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from simulator.world.knowledge import PublicKnowledge
from simulator.world.records import Array, Case, Reconstruction
from simulator.world.specs import Frozen


class Average(Frozen):
    """The public mean and the public majority class (or mean target): what a guess is worth without any model."""

    kind: Literal["average"] = "average"

    models: ClassVar[frozenset[str]] = frozenset()
    needs: ClassVar[frozenset[str]] = frozenset({"public sample"})

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Give every case the same answer."""
        answers = guesses(cases, knowledge)
        return [answers[case.index] for case in cases]


def guesses(cases: Sequence[Case], knowledge: PublicKnowledge, no_signal: bool = False) -> dict[int, Reconstruction]:
    """The public mean as often as records were deleted, with granted labels where there are any; by case index.

    Args:
        cases: the deletions.
        knowledge: the public sample.
        no_signal: whether an attack falls back on this because the models did not differ.
    """
    if not cases:
        return {}
    mean, label = knowledge.mean.astype(np.float64), _typical_label(knowledge)
    return {
        case.index: Reconstruction(
            case=case.index,
            x=np.tile(mean, (case.size, 1)),
            y=np.array(case.labels if case.labels is not None else [label] * case.size, np.float64),
            no_signal=no_signal,
        )
        for case in cases
    }


def _typical_label(knowledge: PublicKnowledge) -> float:
    y: Array = np.asarray(knowledge.y)
    if knowledge.facts.model.task == "regression":
        return float(y.mean())
    return float(np.bincount(y.astype(np.int64)).argmax())
