"""Which of these records was it?"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from palimpsest.attacks import CARDS
from palimpsest.attacks.linear import operator_of, precise_model, released_gradients
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import digest_of
from palimpsest.simulator.world.records import Array, Case, Challenge, Params, Scores
from palimpsest.simulator.world.specs import Frozen

_TOGETHER = 64
"""Records whose gradients are held at once."""

_TINY = 1e-300

Operator: TypeAlias = Literal["auto", "identity", "hessian"]


class CandidateMatch(Frozen):
    """Score every record of the challenge by how much of what the deletion took out of the gradient lies along it.

    Linear head: ||x~^T G|| / (||x~|| ||G||), G the sum of x~ r^T over the deleted records as ``hrec`` has it; labels
    are not used.
    Other models: the cosine of the record's gradient, with its label, at the model before and the parameter change.
    Where nothing changed: zeros, flagged. Guarantee: none. It is the measure that bounds on reconstruction speak of.

    Attributes:
        operator: as for ``hrec``; of linear heads only.
    """

    card: ClassVar[Card] = CARDS["candidate-match"]
    kind: Literal["candidate-match"] = "candidate-match"
    operator: Operator = "auto"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Scores]:
        """Score all records for all cases, those of a linear head in one product."""
        assert knowledge.challenge is not None  # the session saw to it
        loud = [case for case in cases if not case.silent]
        found = {case.index: Scores(case.index, np.zeros(len(knowledge.challenge.y)), no_signal=True) for case in cases}
        if loud and knowledge.model.linear:
            found |= _projected(loud, knowledge, knowledge.challenge, self.operator)
        elif loud:
            found |= _aligned(loud, knowledge.model, knowledge.challenge)
        return [found[case.index] for case in cases]


def _projected(
    cases: Sequence[Case], knowledge: PublicKnowledge, challenge: Challenge, wanted: Operator
) -> dict[int, Scores]:
    released = released_gradients(cases, knowledge, operator_of(knowledge, wanted)).gradients
    phi = precise_model(knowledge).embed(torch.tensor(challenge.x)).numpy()
    features = np.concatenate([phi, np.ones((len(phi), 1))], axis=1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    sizes = np.maximum(np.linalg.norm(released, axis=(1, 2)), _TINY)
    return {
        case.index: Scores(case.index, np.linalg.norm(features @ matrix, axis=1) / size)
        for case, matrix, size in zip(cases, released, sizes, strict=True)
    }


def _aligned(cases: Sequence[Case], model: Model, challenge: Challenge) -> dict[int, Scores]:
    """Unlearning moves the parameters up the deleted records' loss: along their gradient."""
    together: dict[str, list[Case]] = {}
    for case in cases:
        together.setdefault(digest_of([case.before]), []).append(case)
    found: dict[int, Scores] = {}
    for group in together.values():
        moves = np.stack([_flat(case.after, model) - _flat(case.before, model) for case in group])
        unit = moves / np.linalg.norm(moves, axis=1, keepdims=True)
        blocks = [rows @ unit.T for rows in _directions(model, group[0].before, challenge)]
        likeness = np.concatenate(blocks)
        found |= {case.index: Scores(case.index, likeness[:, i]) for i, case in enumerate(group)}
    return found


def _directions(model: Model, params: Params, challenge: Challenge) -> Iterator[Array]:
    """Yield ``[b, parameters]`` float64 unit gradients of single records' losses, block by block."""

    def loss(at: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        return model.losses(model.scores(at, record.unsqueeze(0)), label.unsqueeze(0))[0]

    slopes_of = vmap(grad(loss), in_dims=(None, 0, 0))
    tensors, x, y = model.tensors(params), torch.tensor(challenge.x, dtype=model.dtype), torch.tensor(challenge.y)
    for start in range(0, len(x), _TOGETHER):
        slopes = slopes_of(tensors, x[start : start + _TOGETHER], y[start : start + _TOGETHER])
        rows = torch.cat([slopes[name].flatten(1) for name in model.names], 1).double()
        yield torch.nn.functional.normalize(rows, dim=1).numpy()


def _flat(params: Params, model: Model) -> Array:
    """In the order of the model's names, as ``_directions``."""
    return np.concatenate([np.asarray(params[name], np.float64).ravel() for name in model.names])
