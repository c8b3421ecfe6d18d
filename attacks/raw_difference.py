"""The dominant direction of the parameter change itself."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guesses
from palimpsest.attacks.divergence import Reads, at_divergence
from palimpsest.attacks.hrec import reconstruct
from palimpsest.attacks.labels import explain
from palimpsest.attacks.linear import dominant, precise_model
from palimpsest.attacks.reading import Read, read
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Reconstruction
from palimpsest.simulator.world.specs import Frozen


class RawDifference(Frozen):
    """``hrec`` with the identity for its operator: what the change shows without the public sample's Hessian.

    For an mlp, the first layer's gradient is sum_i [x_i; 1] delta_i^T: one record is the top left singular vector of
    the first layer's change, several are read off the hidden units whose bias changed most.

    Attributes:
        reads: as for ``hrec``.
    """

    card: ClassVar[Card] = CARDS["raw-difference"]
    kind: Literal["raw-difference"] = "raw-difference"
    reads: Reads = "auto"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct all cases in one batch."""
        loud = [case for case in cases if not case.silent]
        answers = (
            reconstruct(loud, knowledge, "identity", self.reads)
            if knowledge.model.linear
            else layered(at_divergence(loud, knowledge, self.reads), knowledge)
        )
        answers |= guesses([case for case in cases if case.silent], knowledge, no_signal=True)
        return [answers[case.index] for case in cases]


def layered(cases: Sequence[Case], knowledge: PublicKnowledge) -> dict[int, Reconstruction]:
    """Read records off the first layer, and labels off the last layer's bias."""
    if not cases:
        return {}
    model = precise_model(knowledge)
    directions = []
    for case in cases:
        change = _first_layer_change(case, model)
        directions.append(dominant(change[None]) if case.size == 1 else _loudest_units(change, case.size))
    records = read(np.concatenate(directions), knowledge)
    answers, start = {}, 0
    for case in cases:
        rows = slice(start, start + case.size)
        answers[case.index] = _answer(case, records, rows, model, knowledge.facts.step)
        start += case.size
    return answers


def _first_layer_change(case: Case, model: Model) -> Array:
    """``[d + 1, hidden]`` change of the first layer, its bias as the last row."""
    assert model.first_layer is not None  # the card says so
    weight, bias = model.first_layer
    change = [np.asarray(case.before[name], np.float64) - case.after[name] for name in (weight, bias)]
    return np.concatenate([change[0].T, change[1][None, :]])


def _loudest_units(change: Array, size: int) -> Array:
    """``[size, d + 1]`` columns of the hidden units with the largest bias change, repeated if there are too few."""
    order = np.argsort(-np.abs(change[-1]), kind="stable")
    return change[:, np.resize(order[:size], size)].T


def _answer(case: Case, records: Read, rows: slice, model: Model, step: float) -> Reconstruction:
    """Each record's label is the one whose residual at its scores best explains its share of the bias change."""
    labels = case.labels
    if labels is None:
        bias = model.last_layer[1]
        share = (np.asarray(case.before[bias], np.float64) - case.after[bias]) / (step * case.size)
        with torch.no_grad():
            scores = model.scores(model.tensors(case.before), torch.tensor(records.x[rows])).numpy()
        labels = tuple(explain(model, scores, np.broadcast_to(share, scores.shape)))
    notes = {"sign_flipped": float(records.flipped[rows].sum())}
    return Reconstruction(case=case.index, x=records.x[rows], y=np.asarray(labels, np.float64), notes=notes)
