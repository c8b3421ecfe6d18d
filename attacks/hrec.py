"""Reconstruction of deleted records from the parameter change of a linear head."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guesses
from palimpsest.attacks.divergence import Reads
from palimpsest.attacks.evidence import operator_of
from palimpsest.attacks.labels import explain, infer_labels
from palimpsest.attacks.linear import Operator, Released, dominant, precise_model, released_gradients
from palimpsest.attacks.reading import Read, read
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Reconstruction
from palimpsest.simulator.world.specs import Frozen

_TOGETHER = 256
"""Cases in one batch: of many more, the matrices would not stay in reach."""
_BEYOND = 10.0
"""Two gradient norms are left by two optima, and the public Hessian may be some times the private one."""


class Hrec(Frozen):
    """G = H_pub (theta - theta') = sum of x~ r^T over the deleted records (Bertran et al., NeurIPS 2024).

    One record: x~ is the top left singular vector of G, scaled so that its intercept is 1; the label is the one whose
    residual explains G best. Several: simple matching. The labels are those that explain G best (``infer_labels``), and
    each label's record is its class's column of G (records of one class get the same answer). Regression has one
    column: every record gets the residual-weighted mean of all. Where nothing changed: the public mean, flagged. So it
    is where an svm's deletion took no more out of the gradient than the solver leaves there: the record was beyond its
    margin, and the two optima are one.

    Attributes:
        operator: what the rule leaves in the parameters: ``identity``, a gradient times a step; ``hessian``, an
            optimum's response; ``auto`` takes it from public knowledge of the rule, or from what the change shows
            (``evidence.operator_of``).
        reads: the pair around the unlearning, where the sequences part, or all from there (see ``Reads``).
    """

    card: ClassVar[Card] = CARDS["hrec"]
    kind: Literal["hrec"] = "hrec"
    operator: Literal["auto", "identity", "hessian"] = "auto"
    reads: Reads = "auto"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct all cases in one batch."""
        operator = operator_of(knowledge, self.operator, cases, self.reads)
        answers = reconstruct([case for case in cases if not case.silent], knowledge, operator, self.reads)
        answers |= guesses([case for case in cases if case.silent], knowledge, no_signal=True)
        return [answers[case.index] for case in cases]


def reconstruct(
    cases: Sequence[Case], knowledge: PublicKnowledge, operator: Operator, reads: Reads = "auto"
) -> dict[int, Reconstruction]:
    """Read the records of every case, none of them silent, off its G; answers by case index."""
    answers: dict[int, Reconstruction] = {}
    for begin in range(0, len(cases), _TOGETHER):
        answers |= _reconstructed(cases[begin : begin + _TOGETHER], knowledge, operator, reads)
    return answers


def _reconstructed(
    cases: Sequence[Case], knowledge: PublicKnowledge, operator: Operator, reads: Reads
) -> dict[int, Reconstruction]:
    everything = released_gradients(cases, knowledge, operator, reads)
    heard = np.linalg.norm(everything.gradients, axis=(1, 2)) > _unheard(knowledge, operator)
    answers = guesses([case for case, loud in zip(cases, heard, strict=True) if not loud], knowledge, no_signal=True)
    loud = [case for case, wanted in zip(cases, heard, strict=True) if wanted]
    return answers | _read_off(loud, knowledge, everything if heard.all() else everything.some(heard))


def _unheard(knowledge: PublicKnowledge, operator: Operator) -> float:
    """Length of G up to which a solver's own error explains it; negative where every record leaves something behind."""
    facts = knowledge.facts
    if operator == "identity" or knowledge.model.card.loss != "squared hinge" or facts.algorithm != "lbfgs":
        return -1.0
    return _BEYOND * float(facts.training["stop"]["gradient_norm"])


def _read_off(cases: Sequence[Case], knowledge: PublicKnowledge, released: Released) -> dict[int, Reconstruction]:
    """One record a case, or several."""
    single = np.array([case.size == 1 for case in cases], dtype=bool)
    answers: dict[int, Reconstruction] = {}
    for read_off, chosen in ((_singles, single), (_several, ~single)):
        if chosen.any():
            some = [case for case, wanted in zip(cases, chosen, strict=True) if wanted]
            answers |= read_off(some, knowledge, released if chosen.all() else released.some(chosen))
    return answers


def _singles(cases: Sequence[Case], knowledge: PublicKnowledge, released: Released) -> dict[int, Reconstruction]:
    """One record a case: G has rank one."""
    records = read(dominant(released.gradients), knowledge)
    size = (records.features**2).sum(axis=1, keepdims=True)
    residual = np.einsum("cp,cpq->cq", records.features, released.gradients) / size
    scores = np.einsum("cp,cpq->cq", records.features, released.point)
    labels = explain(precise_model(knowledge), scores, residual, released.scaled)
    return {case.index: _answer(case, records, slice(i, i + 1), labels[i : i + 1]) for i, case in enumerate(cases)}


def _several(cases: Sequence[Case], knowledge: PublicKnowledge, released: Released) -> dict[int, Reconstruction]:
    """Several records a case: a column of G for each label."""
    sizes = [case.size for case in cases]
    owner = np.repeat(np.arange(len(cases)), sizes)
    if knowledge.facts.model.task == "classification":
        labels = _labels(cases, knowledge, released)
        columns = labels.astype(np.int64)
    else:
        columns = np.zeros(len(owner), dtype=np.int64)
    records = read(released.gradients[owner, :, columns], knowledge)
    if knowledge.facts.model.task == "regression":
        mean_residual = released.gradients[:, -1, 0] / sizes
        labels = mean_residual[owner] + np.einsum("bp,bp->b", records.features, released.point[owner, :, 0])
    ends = np.cumsum(sizes)
    return {
        case.index: _answer(case, records, slice(end - case.size, end), labels[end - case.size : end])
        for case, end in zip(cases, ends, strict=True)
    }


def _labels(cases: Sequence[Case], knowledge: PublicKnowledge, released: Released) -> Array:
    """``[sum of sizes]`` the labels of each case in ascending order: granted, or inferred."""
    unknown = [i for i, case in enumerate(cases) if case.labels is None]
    labels = {i: np.array(case.labels, np.float64) for i, case in enumerate(cases) if case.labels is not None}
    if unknown:
        inferred = infer_labels(knowledge, released.some(unknown), [cases[i].size for i in unknown])
        labels |= zip(unknown, inferred, strict=True)
    return np.concatenate([labels[i] for i in range(len(cases))])


def _answer(case: Case, records: Read, rows: slice, labels: Array) -> Reconstruction:
    known = labels if case.labels is None else np.asarray(case.labels, np.float64)
    notes = {"sign_flipped": float(records.flipped[rows].sum())}
    return Reconstruction(case=case.index, x=records.x[rows], y=known, notes=notes)
