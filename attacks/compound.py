"""Labels, then candidates, then inversion: each attack starts where the one before it ended."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.func import grad, vmap

from attacks.average import guesses
from attacks.class_score import deleted_labels
from attacks.inversion import Inversion, alike, together_of
from attacks.linear import class_targets, precise_model
from simulator.world.knowledge import PublicKnowledge
from simulator.world.records import Array, Case, Reconstruction
from simulator.world.specs import Frozen

_NUMBERS = 20_000_000
"""Numbers held at once in the gradients of candidates."""


class Compound(Frozen):
    """Inversion from public records instead of noise (no publication known).

    ``deleted_labels`` says what was deleted. Of the public records of these classes, those whose gradient points most
    along the change of the parameters are the starts: the i-th restart begins at the i-th best of each class. From
    there it is ``inversion``; where that finds no better match, the candidate itself is the answer. It is for networks
    on which a search from noise ends in a poor optimum. A regression's starts are matched by their targets alone. Where
    nothing changed: the public mean, flagged. Guarantee: none.

    Attributes:
        candidates: restarts, each from candidates of its own.
        iterations, rate, polish, tv: as for ``inversion``.
    """

    kind: Literal["compound"] = "compound"
    candidates: int = Field(default=4, ge=1)
    iterations: int = Field(default=60, ge=8)
    rate: float = Field(default=0.03, gt=0)
    polish: int = Field(default=250, ge=0)
    tv: float = Field(default=3e-3, ge=0)

    models: ClassVar[frozenset[str]] = frozenset({"mlp", "cnn", "resnet18"})
    needs: ClassVar[frozenset[str]] = frozenset({"public sample", "unlearning rule"})

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct all cases, those of one size and model in one batch."""
        found = guesses([case for case in cases if case.silent], knowledge, no_signal=True)
        inner = Inversion(
            iterations=self.iterations, restarts=self.candidates, rate=self.rate, polish=self.polish, tv=self.tv
        )
        loud = [case for case in cases if not case.silent]
        for together in alike(loud, together_of(knowledge, self.candidates)):
            labels = None
            if knowledge.facts.model.task == "classification":
                labels = np.stack([deleted_labels(case, knowledge, precise_model(knowledge)) for case in together])
            starts = _starts(together, knowledge, labels, self.candidates)
            found |= inner.search(together, knowledge, starts, labels)
        return [found[case.index] for case in cases]


def _starts(cases: Sequence[Case], knowledge: PublicKnowledge, labels: Array | None, count: int) -> Array:
    """``[c, count, k, d]`` public records: for the j-th record of a class, every so-many-th best of that class."""
    likeness = _likeness(cases, knowledge)
    y = np.asarray(knowledge.y) if labels is not None else np.zeros(len(knowledge.y))
    wanted = labels if labels is not None else np.zeros((len(cases), cases[0].size))
    rows = np.empty((len(cases), count, cases[0].size), dtype=np.int64)
    for i, own in enumerate(wanted):
        for label in np.unique(own):
            places = np.flatnonzero(own == label)
            members = np.flatnonzero(y == label)
            members = members if len(members) else np.arange(len(y))
            best = members[np.argsort(-likeness[i, members], kind="stable")]
            rows[i][:, places] = np.resize(best, (count, len(places)))
    found: Array = np.clip(np.asarray(knowledge.x, np.float64)[rows], knowledge.box_low, knowledge.box_high)
    return found


def _likeness(cases: Sequence[Case], knowledge: PublicKnowledge) -> Array:
    """``[c, m]`` cosine of each public record's gradient at the model before with the change of the parameters."""
    model = precise_model(knowledge)
    before = model.tensors(cases[0].before)
    change = torch.stack([_flat([model.tensors(case.after)[name] - before[name] for name in before]) for case in cases])
    change = change / change.norm(dim=1, keepdim=True)

    def loss(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return model.losses(model.scores(params, x[None]), y[None]).sum()

    x, y = torch.tensor(np.asarray(knowledge.x), dtype=torch.float64), class_targets(knowledge)
    parts = []
    for some in torch.split(torch.arange(len(x)), max(1, _NUMBERS // model.size)):
        each = vmap(grad(loss), in_dims=(None, 0, 0))(before, x[some], y[some])
        flat = torch.cat([each[name].flatten(1) for name in before], 1)
        parts.append(change @ flat.T / flat.norm(dim=1).clamp(min=torch.finfo(flat.dtype).tiny))
    likeness: Array = torch.cat(parts, 1).numpy()
    return likeness


def _flat(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([value.reshape(-1) for value in values])
