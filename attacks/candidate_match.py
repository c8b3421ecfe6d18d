"""Which of these records was it?"""

from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch

from palimpsest.attacks import CARDS
from palimpsest.attacks.divergence import Reads, at_divergence, path_of
from palimpsest.attacks.evidence import operator_of
from palimpsest.attacks.grouping import alike
from palimpsest.attacks.linear import precise_model, released_gradients
from palimpsest.attacks.whitening import PublicGradients, change_of, gradients_of
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case, Challenge, Scores
from palimpsest.simulator.world.specs import Frozen

_TINY = 1e-300

Operator: TypeAlias = Literal["auto", "identity", "hessian"]


class CandidateMatch(Frozen):
    """Score every record of the challenge by how much of what the deletion took out of the gradient lies along it.

    Linear head: ||x~^T G|| / (||x~|| ||G||), G the sum of x~ r^T over the deleted records as ``hrec`` has it; labels
    are not used.
    Other models: the cosine of the record's gradient, with its label, at the model before and the parameter change;
    where several local steps stand between two models, along them, and without what the batches' other records add
    (``PublicGradients``).
    Where nothing changed: zeros, flagged. Guarantee: none. It is the measure that bounds on reconstruction speak of.

    Attributes:
        operator: as for ``hrec``; of linear heads only.
        reads: as for ``hrec``, or of networks for ``inversion``.
    """

    card: ClassVar[Card] = CARDS["candidate-match"]
    kind: Literal["candidate-match"] = "candidate-match"
    operator: Operator = "auto"
    reads: Reads = "auto"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Scores]:
        """Score all records for all cases, those of a linear head in one product."""
        assert knowledge.challenge is not None  # the session saw to it
        loud = [case for case in cases if not case.silent]
        scores = {
            case.index: Scores(case.index, np.zeros(len(knowledge.challenge.y)), no_signal=True) for case in cases
        }
        if loud and knowledge.model.linear:
            scores |= _projected(loud, knowledge, knowledge.challenge, self)
        elif loud:
            scores |= _aligned(at_divergence(loud, knowledge, self.reads), knowledge, knowledge.challenge)
        return [scores[case.index] for case in cases]


def _projected(
    cases: Sequence[Case], knowledge: PublicKnowledge, challenge: Challenge, how: CandidateMatch
) -> dict[int, Scores]:
    operator = operator_of(knowledge, how.operator, cases, how.reads)
    released = released_gradients(cases, knowledge, operator, how.reads).gradients
    phi = precise_model(knowledge).embed(torch.tensor(challenge.x)).numpy()
    features = np.concatenate([phi, np.ones((len(phi), 1))], axis=1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    sizes = np.maximum(np.linalg.norm(released, axis=(1, 2)), _TINY)
    return {
        case.index: Scores(case.index, np.linalg.norm(features @ matrix, axis=1) / size)
        for case, matrix, size in zip(cases, released, sizes, strict=True)
    }


def _aligned(cases: Sequence[Case], knowledge: PublicKnowledge, challenge: Challenge) -> dict[int, Scores]:
    """Unlearning moves the parameters up the deleted records' loss: along their gradient."""
    model = knowledge.model
    scores: dict[int, Scores] = {}
    for group in alike(cases, len(cases)):
        path = path_of(group[0])
        slopes = gradients_of(model, path, challenge.x, challenge.y)
        changes = torch.stack([change_of(case, model) for case in group])
        if len(path) > 1:
            whiten = PublicGradients.of(knowledge, path).whiten
            slopes, changes = whiten(slopes), whiten(changes)
        sides = [torch.nn.functional.normalize(each.double(), dim=1) for each in (slopes, changes)]
        likeness = (sides[0] @ sides[1].T).numpy()
        scores |= {case.index: Scores(case.index, likeness[:, i]) for i, case in enumerate(group)}
    return scores
