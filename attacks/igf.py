"""Reconstruction by a decoder that was learned from the gradients of public records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guesses
from palimpsest.attacks.class_score import labels_of
from palimpsest.attacks.divergence import Reads, at_divergence, path_of
from palimpsest.attacks.draun import as_ascended
from palimpsest.attacks.fuia import as_told
from palimpsest.attacks.grouping import alike
from palimpsest.attacks.inversion import quick_model, unrelated
from palimpsest.attacks.ridge_decoder import Decoder, Inputs
from palimpsest.attacks.seen_features import features_of
from palimpsest.attacks.whitening import PublicGradients, change_of, gradients_of
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Reconstruction, same_model
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Frozen

_RECORDS = 2000
"""Public records from which a decoder is learned, at most."""
_NUMBERS = 100_000_000
"""Numbers held at once in gradients of public records, at most."""
_FEWEST = 5
"""Public records of a class, below which those of all classes are taken."""
_AT_ONCE = 256
_TINY = 1e-12


class Igf(Frozen):
    """Learn from public records which record goes with which gradient, then decode the change of the parameters.

    After Zhang et al. 2025 (IGF, 2505.11097), of which the abstract was at hand and no code: an auditor of federated
    unlearning who is shown gradient differences reduces them by a singular value decomposition, and a learned network
    turns them into pixels. What follows is ours. At the model that was seen before the unlearning, or where the first
    round that differs begins, the gradient of a public record with the deleted one's label is what its own deletion
    would leave. From such gradients, with what is common to other records turned down as ``inversion`` does, at length
    1, in their singular directions, the records are predicted: by ridge regression in closed form, its strength by
    leave-one-out. A small network by Adam, with a held-out part of the public sample to stop by, was tried in its place
    and does worse (docs/tiers.md).

    Where one record's gradient was released itself, a second regression starts from what the last layer saw of it
    (``features_of``), over public records of all classes; that with the smaller leave-one-out error on the label's
    public records answers. Several records of a deletion: sums of as many public gradients with the same labels are
    drawn, and each record is answered by the mean of those of its label. It reads messages as ``draun`` and ``fuia``
    do where the adversary hears any that tell something, and releases otherwise, as ``inversion`` does. Labels:
    granted, or ``labels_of``. Where nothing changed: the public mean, flagged. Guarantee: none.

    Attributes:
        draws: sums of public gradients from which is learned what several records leave.
        reads: of releases: ``pair``, or the first round in which training and unlearning differ, where there is such.
    """

    card: ClassVar[Card] = CARDS["igf"]
    kind: Literal["igf"] = "igf"
    draws: int = Field(default=1000, ge=2)
    reads: Reads = "auto"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct all cases; those of one model, and among them those of equal labels, share their decoder."""
        seed = int(rng.integers(2**31))
        heard = [told for case in cases if (told := _heard(case, knowledge, self.reads)) is not None]
        there = {case.index for case in heard}
        answers = guesses([case for case in cases if case.index not in there], knowledge, no_signal=True)
        for some in _of_one_path(heard):
            answers |= self._decoded(some, knowledge, seed)
        return [answers[case.index] for case in cases]

    def _decoded(self, cases: Sequence[Case], knowledge: PublicKnowledge, seed: int) -> dict[int, Reconstruction]:
        """Answers to cases of one size, whose gradients were taken at the same models."""
        path = path_of(cases[0])
        public = PublicGradients.of(knowledge, path)
        labelled: dict[tuple[float, ...], list[Case]] = {}
        for case, y in zip(cases, labels_of(cases, knowledge, public if len(path) > 1 else None), strict=True):
            labelled.setdefault(tuple(y), []).append(case)
        seen = _by_features(cases, knowledge)
        answers = {}
        for labels, some in labelled.items():
            for case, guess in zip(some, self._by_gradients(some, labels, knowledge, public, seed), strict=True):
                best = min([guess, *seen.get(case.index, {}).get(labels[0], [])], key=lambda decoded: decoded.error)
                x = np.clip(best.x, knowledge.box_low, knowledge.box_high)
                notes = {"public_mse": best.error}
                answers[case.index] = Reconstruction(case.index, x, np.array(labels, np.float64), notes=notes)
        return answers

    def _by_gradients(
        self,
        cases: Sequence[Case],
        labels: tuple[float, ...],
        knowledge: PublicKnowledge,
        public: PublicGradients,
        seed: int,
    ) -> "list[_Decoded]":
        """Decode changes by what public records with these labels would leave."""
        model, classes = quick_model(knowledge), sorted(set(labels))
        most = max(2, min(_RECORDS, _NUMBERS // model.size) // len(classes))
        members = {label: _members(knowledge, label)[:most] for label in classes}
        rows = np.unique(np.concatenate(list(members.values())))
        x = np.asarray(knowledge.x, np.float64)
        gradients = gradients_of(model, path_of(cases[0]), x[rows], np.asarray(knowledge.y)[rows])
        changes = torch.stack([change_of(case, model) for case in cases])
        coordinates, seen = _reduced(public.whiten(gradients), public.whiten(changes))
        rng = generator(seed, "igf", *(int(label) for label in labels))
        drawn = members[labels[0]][:, None]
        if len(labels) > 1:
            drawn = np.stack([rng.choice(members[label], self.draws) for label in labels], axis=1)
        inputs = Inputs(_unit(sum(coordinates[np.searchsorted(rows, column)] for column in drawn.T)))
        decoders = {}
        for label in classes:
            same = [place for place, other in enumerate(labels) if other == label]
            decoders[label] = inputs.learned(np.mean([x[drawn[:, place]] for place in same], axis=0))
        error = float(np.mean([decoder.errors.mean() for decoder in decoders.values()]))
        each = {label: decoder(seen) for label, decoder in decoders.items()}
        return [_Decoded(np.stack([each[label][i] for label in labels]), error) for i in range(len(cases))]


@dataclass(frozen=True)
class _Decoded:
    """Records ``x [k, d]``, and the mean squared error by which public records of these labels are missed."""

    x: Array
    error: float


def _heard(case: Case, knowledge: PublicKnowledge, reads: Reads) -> Case | None:
    """The case as messages tell it, or else releases; None where neither tells anything."""
    told = as_ascended(case, knowledge) or as_told(case, knowledge) if case.messages else None
    if told is not None and not same_model(told.before, told.after):
        return told
    if case.silent or unrelated(case, knowledge):
        return None
    [read] = at_divergence([case], knowledge, reads)
    return None if read.silent else read


def _of_one_path(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Cases of one size whose gradients were taken at the same models."""
    for group in alike(cases, len(cases)):
        left = group
        while left:
            ends = [path_of(case) for case in left]
            same = [len(end) == len(ends[0]) and same_model(end[-1], ends[0][-1]) for end in ends]
            yield [case for case, alike_first in zip(left, same, strict=True) if alike_first]
            left = [case for case, alike_first in zip(left, same, strict=True) if not alike_first]


def _members(knowledge: PublicKnowledge, label: float) -> Array:
    """Ascending rows of the public records of a class; of all, where it has too few."""
    rows = np.flatnonzero(np.asarray(knowledge.y) == label)
    return rows if len(rows) >= _FEWEST else np.arange(len(knowledge.y))


def _unit(rows: Array) -> Array:
    unit: Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
    return unit


def _reduced(gradients: torch.Tensor, changes: torch.Tensor) -> tuple[Array, Array]:
    """Coordinates of gradients ``[m, r]`` in their own singular directions, and of changes ``[c, r]`` at length 1.

    What lies outside of these directions says nothing to a linear decoder, but counts for the length.
    """
    values, vectors = torch.linalg.eigh((gradients @ gradients.T).double())
    kept = values > 1e-7 * values[-1].clamp(min=_TINY)
    roots = values[kept].sqrt()
    onto = (vectors[:, kept] / roots).T
    unit = torch.nn.functional.normalize(changes, dim=1)
    return (vectors[:, kept] * roots).numpy(), ((unit @ gradients.T).double() @ onto.T).numpy()


def _by_features(cases: Sequence[Case], knowledge: PublicKnowledge) -> dict[int, dict[float, list[_Decoded]]]:
    """What the last layer saw, decoded, of cases that gave it away: by case index, then by what label is assumed."""
    model = quick_model(knowledge)
    told = {case.index: seen for case in cases if (seen := features_of(case, model)) is not None}
    if not told:
        return {}
    x, y = np.asarray(knowledge.x, np.float64)[:_RECORDS], np.asarray(knowledge.y)[:_RECORDS]
    at = model.tensors(cases[0].before)
    with torch.no_grad():
        parts = torch.split(torch.tensor(x, dtype=model.dtype), _AT_ONCE)
        features = torch.cat([model.before_last(at, part).flatten(1) for part in parts]).double().numpy()
    decoder: Decoder = Inputs(features).learned(x)
    found = decoder(np.stack(list(told.values())))
    error = {label: float(decoder.errors[y == label].mean()) for label in np.unique(y)}
    return {
        index: {label: [_Decoded(found[i : i + 1], of_class)] for label, of_class in error.items()}
        for i, index in enumerate(told)
    }
