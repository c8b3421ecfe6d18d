"""Which labels were deleted, by what the deletion did to the last layer."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import shares
from palimpsest.attacks.divergence import Reads, at_divergence, path_of
from palimpsest.attacks.evidence import operator_of
from palimpsest.attacks.grouping import alike
from palimpsest.attacks.labels import infer_labels, multiset
from palimpsest.attacks.linear import precise_model, released_gradients
from palimpsest.attacks.whitening import PublicGradients, change_of
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Labels
from palimpsest.simulator.world.specs import Frozen

_SHARE = 0.5


class ClassScore(Frozen):
    """The classes whose row of the last layer, and whose bias, the deletion pulled back most (Zhou and Zhu, FUIA).

    Evidence: ``signed_shares`` of the last layer's change; for a linear head at its optimum of ``hrec``'s G in its
    place, which undoes the Hessian that mixes the classes (beyond the paper). Answer for one record: the class of the
    largest evidence; for several, the classes that add up best to the whole change (``infer_labels``,
    ``labels_of``); granted labels are believed. Where nothing changed: the public sample's shares, flagged.
    Guarantee: none; noise of training hides it.

    Attributes:
        operator: as for ``hrec``; of linear heads only.
        reads: as for ``hrec``, or of networks for ``inversion``.
    """

    card: ClassVar[Card] = CARDS["class-score"]
    kind: Literal["class-score"] = "class-score"
    operator: Literal["auto", "identity", "hessian"] = "auto"
    reads: Reads = "auto"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Labels]:
        """Answer all cases; those of a linear head in one batch."""
        model, loud = knowledge.model, [case for case in cases if not case.silent]
        labels = {case.index: shares(case.index, case.size, knowledge) for case in cases if case.silent}
        if loud and model.linear:
            labels |= self._of_heads(loud, knowledge)
        elif loud:
            labels |= classes_of(at_divergence(loud, knowledge, self.reads), knowledge)
        return [labels[case.index] for case in cases]

    def _of_heads(self, cases: Sequence[Case], knowledge: PublicKnowledge) -> dict[int, Labels]:
        operator = operator_of(knowledge, self.operator, cases, self.reads)
        released = released_gradients(cases, knowledge, operator, self.reads)
        evidence = [signed_shares(matrix[:-1].T, matrix[-1]) for matrix in released.gradients]
        several = [i for i, case in enumerate(cases) if case.size > 1 and case.labels is None]
        labels = {i: np.array([each.argmax()], np.float64) for i, each in enumerate(evidence)}
        labels |= {i: np.array(case.labels, np.float64) for i, case in enumerate(cases) if case.labels is not None}
        if several:
            inferred = infer_labels(knowledge, released.some(several), [cases[i].size for i in several])
            labels |= zip(several, inferred, strict=True)
        return {case.index: Labels(case.index, labels[i], evidence[i]) for i, case in enumerate(cases)}


def classes_of(cases: Sequence[Case], knowledge: PublicKnowledge) -> dict[int, Labels]:
    """Answers by case index, from the change of the last layer as it is; cases of one model before."""
    model = knowledge.model
    answers = {}
    for together in alike(cases, len(cases)):
        path = path_of(together[0])
        public = PublicGradients.of(knowledge, path) if len(path) > 1 else None
        for case, y in zip(together, labels_of(together, knowledge, public), strict=True):
            answers[case.index] = Labels(case.index, y, _evidence(case, model, public))
    return answers


def _evidence(case: Case, model: Model, public: PublicGradients | None) -> Array:
    """``[Q]`` of the classes: the score of the last layer, or the likeness of the public records most alike."""
    if public is None:
        return class_score(case, model)
    return public.evidence(change_of(case, model), model.spec.outputs)


def labels_of(
    cases: Sequence[Case], knowledge: PublicKnowledge, public: PublicGradients | None
) -> list[NDArray[np.float64]]:
    """``[k]`` ascending labels of each case, all of one size: granted, or from public gradients where there are any."""
    model = precise_model(knowledge)
    if public is None:
        return [deleted_labels(case, knowledge, model) for case in cases]
    inferred = public.labels(torch.stack([change_of(case, model) for case in cases]), cases[0].size)
    granted = [None if case.labels is None else np.array(case.labels, np.float64) for case in cases]
    return [y if known is None else known for known, y in zip(granted, inferred, strict=True)]


def class_score(case: Case, model: Model) -> Array:
    """``[Q]`` ``signed_shares`` of the last layer's change from after to before."""
    weight, bias = (np.asarray(case.before[name], np.float64) - case.after[name] for name in model.last_layer)
    return signed_shares(weight, bias)


def signed_shares(weight: Array, bias: Array) -> Array:
    """``[Q]`` S_i = b |dW_i|_1 / sum + (1 - b) |db_i| / sum with b = 1/2, of ``dW [Q, p]`` and ``db [Q]``, signed.

    The gradient of the cross-entropy by the bias is p - e_y: unlearning raises it for every class but the deleted one.
    The score has the sign of db = b - b', so that the deleted class is the largest entry.
    """
    rows = np.abs(weight).sum(axis=1)
    parts = (part / max(float(part.sum()), np.finfo(np.float64).tiny) for part in (rows, np.abs(bias)))
    score: Array = np.sign(bias) * sum(share * part for share, part in zip((_SHARE, 1 - _SHARE), parts, strict=True))
    return score


def deleted_labels(case: Case, knowledge: PublicKnowledge, model: Model) -> NDArray[np.float64]:
    """``[k]`` ascending labels of one deletion, without ground truth.

    One record: the class of the largest score. Several: the classes whose public records' mean residuals e_y - p add up
    best to the direction of the bias change.
    """
    if case.labels is not None:
        return np.array(case.labels, np.float64)
    if case.size == 1:
        return np.array([class_score(case, model).argmax()], np.float64)
    y = np.asarray(knowledge.y).astype(np.int64)
    with torch.no_grad():
        scores = model.scores(model.tensors(case.before), torch.tensor(np.asarray(knowledge.x), dtype=model.dtype))
    residual = model.residual(scores, torch.tensor(y)).numpy()
    classes = np.unique(y)
    typical = np.stack([residual[y == label].mean(axis=0) for label in classes])
    bias = model.last_layer[1]
    change = np.asarray(case.before[bias], np.float64) - case.after[bias]
    scale = case.size * np.linalg.norm(typical, axis=1).mean() / max(float(np.abs(change).sum()), 1e-300)
    total = change / knowledge.facts.step if knowledge.facts.operator == "identity" else change * scale
    labels: NDArray[np.float64] = classes[multiset(total, typical, case.size)].astype(np.float64)
    return labels
