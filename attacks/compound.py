"""Labels, then candidates or ``hrec``, then inversion: each attack starts where the one before it ended."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guesses
from palimpsest.attacks.class_score import labels_of
from palimpsest.attacks.descent import Ground, MatchingTarget, Search
from palimpsest.attacks.divergence import Reads, at_divergence, path_of
from palimpsest.attacks.evidence import operator_of
from palimpsest.attacks.grouping import alike
from palimpsest.attacks.hrec import reconstruct
from palimpsest.attacks.inversion import answer, invert, quick_model, together_of
from palimpsest.attacks.linear import Operator, precise_model, released_gradients
from palimpsest.attacks.matching import linear_matching
from palimpsest.attacks.whitening import PublicGradients, change_of, gradients_of
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Reconstruction

_NUMBERS = 20_000_000
"""Numbers held at once in the gradients of candidates."""


class Compound(Search):
    """Inversion from what other attacks have found instead of from noise (no publication known).

    Networks: ``labels_of`` says what was deleted. Of the public records of these classes, those whose gradient
    points most along the change of the parameters are the starts: the i-th restart begins at the i-th best of each
    class. From there it is ``inversion``. A regression's starts are matched by their targets alone.

    Linear models: ``hrec``'s answer is the start, in columns at once, and its G is the change to be matched, which has
    one residual of the model for each record where ``hrec`` takes any vector. Of a regression G is one column, which
    ``hrec``'s answer matches already. (On a network, ``hrec`` would read the last layer's inputs, and no record.)

    Where nothing matches better, the start is the answer. Where nothing changed: the public mean, flagged. Guarantee:
    none.

    Attributes:
        candidates: restarts, each from candidates of its own; networks only.
        reads: as for ``hrec`` and ``inversion``.
    """

    card: ClassVar[Card] = CARDS["compound"]
    kind: Literal["compound"] = "compound"
    candidates: int = Field(default=4, ge=1)
    reads: Reads = "auto"
    iterations: int = Field(default=60, ge=8)

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct all cases; of networks those of one size and model in one batch."""
        answers = guesses([case for case in cases if case.silent], knowledge, no_signal=True)
        loud = sorted((case for case in cases if not case.silent), key=lambda case: case.index)
        if loud:
            answers |= (
                self._from_hrec(loud, knowledge)
                if knowledge.model.linear
                else self._from_public(at_divergence(loud, knowledge, self.reads), knowledge)
            )
        return [answers[case.index] for case in cases]

    def _from_public(self, cases: Sequence[Case], knowledge: PublicKnowledge) -> dict[int, Reconstruction]:
        ground = Ground.of(knowledge)
        answers: dict[int, Reconstruction] = {}
        for together in alike(cases, together_of(knowledge, self.candidates)):
            labels, path = None, path_of(together[0])
            public = PublicGradients.of(knowledge, path) if len(path) > 1 else None
            if knowledge.facts.model.task == "classification":
                labels = np.stack(labels_of(together, knowledge, public))
            starts = _starts(together, _likeness(together, knowledge, public), knowledge, labels, self.candidates)
            answers |= invert(self, together, knowledge, ground, starts, labels)
        return answers

    def _from_hrec(self, cases: Sequence[Case], knowledge: PublicKnowledge) -> dict[int, Reconstruction]:
        operator = operator_of(knowledge, "auto", cases, self.reads)
        answers = reconstruct(cases, knowledge, operator, self.reads)
        if knowledge.facts.model.task == "regression":
            return answers
        ground, match = Ground.of(knowledge), linear_matching(quick_model(knowledge))
        heard = [case for case in cases if not answers[case.index].no_signal]
        for size in sorted({case.size for case in heard}):
            sized = [case for case in heard if case.size == size]
            starts = [answers[case.index] for case in sized]
            y = torch.tensor(np.stack([start.y for start in starts]).astype(np.int64))
            wanted = MatchingTarget(ground, match, y, _taken_out(sized, knowledge, operator, self.reads))
            x, misfit = self.refine(wanted, torch.tensor(np.stack([start.x for start in starts])), self.polish)
            answers |= {case.index: answer(case, x[i].double(), y[i], misfit[i]) for i, case in enumerate(sized)}
        return answers


def _taken_out(cases: Sequence[Case], knowledge: PublicKnowledge, operator: Operator, reads: Reads) -> Tensor:
    """``[c, 2, p + 1, Q]`` targets of ``linear_matching``."""
    released = released_gradients(cases, knowledge, operator, reads)
    length = np.linalg.norm(released.gradients, axis=(1, 2), keepdims=True)
    return torch.tensor(np.stack([released.gradients / length, released.point], 1), dtype=torch.float32)


def _starts(
    cases: Sequence[Case], likeness: Array, knowledge: PublicKnowledge, labels: Array | None, count: int
) -> Array:
    """``[c, count, k, d]`` public records: for the j-th record of a class, every so-many-th best of that class."""
    y = np.asarray(knowledge.y) if labels is not None else np.zeros(len(knowledge.y))
    wanted = labels if labels is not None else np.zeros((len(cases), cases[0].size))
    rows = np.empty((len(cases), count, cases[0].size), dtype=np.int64)
    for i, classes in enumerate(wanted):
        for label in np.unique(classes):
            places = np.flatnonzero(classes == label)
            members = np.flatnonzero(y == label)
            members = members if len(members) else np.arange(len(y))
            best = members[np.argsort(-likeness[i, members], kind="stable")]
            rows[i][:, places] = np.resize(best, (count, len(places)))
    starts: Array = np.clip(np.asarray(knowledge.x, np.float64)[rows], knowledge.box_low, knowledge.box_high)
    return starts


def _likeness(cases: Sequence[Case], knowledge: PublicKnowledge, public: PublicGradients | None) -> Array:
    """``[c, m]`` cosine of each public record's gradient with the change of the parameters, as the search has both."""
    model, path = precise_model(knowledge), path_of(cases[0])
    changes = torch.stack([change_of(case, model) for case in cases])
    parts = []
    for some in np.array_split(np.arange(len(knowledge.x)), -(-len(knowledge.x) * model.size // _NUMBERS)):
        slopes = gradients_of(model, path, np.asarray(knowledge.x)[some], np.asarray(knowledge.y)[some]).float()
        sides = [side if public is None else public.whiten(side) for side in (changes, slopes)]
        sides = [torch.nn.functional.normalize(side.double(), dim=1) for side in sides]
        parts.append(sides[0] @ sides[1].T)
    likeness: Array = torch.cat(parts, 1).numpy()
    return likeness
