"""What an unlearning left in the parameters, told by the change itself where no rule tells it.

After the last round of a training or an unlearning a model need not be near an optimum: the change of the parameters
may be the deleted records' gradient itself, times a step, or an optimum's response to it. Under the right one of the
two, a single record's G is x~ r^T, with a residual r that the model has at this record.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from palimpsest.attacks.linear import (
    Operator,
    Released,
    dominant,
    precise_model,
    public_blocks,
    released_gradients,
)
from palimpsest.attacks.reading import read
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case

_JUDGED = 64
"""Cases from which the operator is told, at most: they are all of one rule."""
_BY_ROUNDS = ("fedavg", "fedsgd")
_FLOOR = 0.05
"""Share of the mean variance that every direction of x~ is believed to have."""
_TINY = 1e-300


def operator_of(
    knowledge: PublicKnowledge,
    wanted: Operator | Literal["auto"],
    cases: Sequence[Case],
    reads: str = "auto",
) -> Operator:
    """The operator that is wanted; where nobody says, what the rule is known to leave, or else what the pairs tell.

    A rule is believed where it says ``identity``, or ``hessian`` of models that were solved for. Of models that were
    trained by rounds, and where the rule is ``unknown``, the operator is the one whose G is better explained by a
    single record. Several records explain nearly any G, and so does one where there is one target or two classes (G is
    then one column): what these leave is taken for an optimum's response.

    Args:
        knowledge: public facts and sample.
        wanted: ``auto`` where nobody says.
        cases: of one transcript, of a linear head; silent ones tell nothing.
        reads: what is read of them: where training and unlearning share a model no operator is needed, unless the pair
            is wanted.
    """
    facts = knowledge.facts
    if wanted != "auto":
        return wanted
    if facts.operator == "identity":
        return "identity"
    if facts.operator == "hessian" and facts.algorithm not in _BY_ROUNDS:
        return "hessian"
    pairs = [case for case in cases if not case.silent and (reads == "pair" or case.divergence is None)]
    telling = [case for case in pairs if case.size == 1][:_JUDGED]
    if not telling or facts.model.task != "classification" or facts.model.outputs == 2:
        return "hessian"
    whiten = _whitener(knowledge)
    identity, hessian = (
        float(explained(knowledge, released_gradients(telling, knowledge, each, "pair"), whiten).mean())
        for each in ("identity", "hessian")
    )
    return "identity" if identity > hessian else "hessian"


def explained(knowledge: PublicKnowledge, released: Released, whiten: Array) -> Array:
    """``[c]`` the share of ||W G||^2 that one record accounts for in each case, W the whitener.

    The record is read off G's dominant direction, and its residual is the one, of those that the model has there, a
    class each, that takes most away. Without W the public Hessian would favour itself: it has few large directions,
    along which whatever it is applied to looks like one record.

    Args:
        knowledge: the public sample.
        released: G of each case.
        whiten: ``[p + 1, p + 1]`` W.
    """
    features = read(dominant(released.gradients), knowledge).features
    count, _, outputs = released.gradients.shape
    scores = torch.tensor(np.einsum("cp,cpq->cq", features, released.point))
    classes = torch.arange(outputs).expand(count, outputs)
    residuals = precise_model(knowledge).residual(scores.unsqueeze(1).expand(-1, outputs, -1), classes).numpy()
    seen, whole = features @ whiten.T, whiten @ released.gradients
    along = np.einsum("ckq,cq->ck", residuals, np.einsum("cp,cpq->cq", seen, whole))
    size = (seen**2).sum(axis=1, keepdims=True) * (residuals**2).sum(axis=2)
    told = np.maximum(along, 0.0) ** 2 / np.maximum(size, _TINY)
    shares: Array = told.max(axis=1) / np.maximum((whole**2).sum(axis=(1, 2)), _TINY)
    return shares


def _whitener(knowledge: PublicKnowledge) -> Array:
    """``[p + 1, p + 1]`` W with W^T W the inverse of the public second moment of x~, each direction kept from 0."""
    blocks = [(phi.T @ phi).numpy() for phi, _ in public_blocks(knowledge, knowledge.facts.model.outputs)]
    moment = np.sum(blocks, axis=0) / len(knowledge.x)
    moment += _FLOOR * np.trace(moment) / len(moment) * np.eye(len(moment))
    inverse: Array = np.linalg.inv(np.linalg.cholesky(moment))
    return inverse
