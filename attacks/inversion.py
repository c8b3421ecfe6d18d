"""Reconstruction of deleted records by gradient matching, for models of any architecture."""

from collections.abc import Sequence
from dataclasses import replace
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
from palimpsest.attacks.grouping import alike
from palimpsest.attacks.linear import precise_model
from palimpsest.attacks.matching import added, features_apart, flat, matching
from palimpsest.attacks.raw_difference import layered
from palimpsest.attacks.seen_features import features_of
from palimpsest.attacks.whitening import PublicGradients
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.models.rescaling import KINDS, nearest
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Reconstruction

_TOGETHER = 64
"""Restarts descended at once, if their gradients fit."""
_NUMBERS = 20_000_000
"""Numbers held at once in gradients of restarts."""
_FEATURES = 30.0
"""Weight of the misfit of features beside that of gradients."""
_TINY = 1e-12


class Inversion(Search):
    """x_hat = argmin over the box of 1 - cos(grad l(x, y; theta), theta' - theta) + priors (Hu et al., S&P 2024).

    An ascent step, and in direction nearly an optimum's response, moves the parameters along the deleted records'
    gradient. Starts are drawn with the public sample's mean and covariance, and all records and restarts are descended
    together as ``Search`` says: a restart is dropped when it has not improved for a quarter of the iterations, and the
    best by the matching loss is polished. Several records of a deletion are sought jointly. Labels: granted, or
    ``labels_of``. One record is read off a first layer that sees it as it is, as an mlp's does, which is exact. Where
    nothing changed: the
    public mean, flagged. Guarantee: none.

    Where one record's gradient was released itself, the last layer's change also tells what that layer saw of it
    (``features_of``). The first stage then looks for a record with these features, the others for one that has them
    and the gradient. That is beyond the paper.

    The paper descends in pixels by AdamW on the signs of the gradient, 10,000 iterations of 5 restarts. Adam on the
    gradient at length 1 needs a hundred to come as near, and in the public sample's components it comes nearer where
    pixels are many (docs/attacks-research.md).

    Attributes:
        restarts: random starts.
        reads: ``pair``, or the first round in which training and unlearning differ, where there is such; all rounds
            tell a network's eavesdropper no more, as differences do not add up along a bent loss.
        realigns: whether an mlp or a cnn is first rescaled, unit by unit, to be as near as can be to the model before:
            undoes ``teleportation``, and changes next to nothing else.
    """

    card: ClassVar[Card] = CARDS["inversion"]
    kind: Literal["inversion"] = "inversion"
    restarts: int = Field(default=4, ge=1)
    reads: Reads = "auto"
    realigns: bool = False

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct all cases, those of one size and model in one batch; every case has the same random starts."""
        unread = [case for case in cases if case.silent or unrelated(case, knowledge)]
        answers = guesses(unread, knowledge, no_signal=True)
        heard = [case for case in cases if case.index not in answers]
        if self.realigns and knowledge.facts.model.kind in KINDS:
            heard = [replace(case, after=nearest(case.after, case.before)) for case in heard]
        loud = at_divergence(heard, knowledge, self.reads)
        direct = [case for case in loud if case.size == 1 and knowledge.model.first_layer]
        answers |= layered(direct, knowledge)
        searched = [case for case in loud if case.index not in answers]
        if searched:
            ground = Ground.of(knowledge)
            starts = ground.components.drawn((max(case.size for case in searched), self.restarts), rng)
            for together in alike(searched, together_of(knowledge, self.restarts)):
                same = starts[: together[0].size].transpose(1, 0, 2)
                answers |= invert(self, together, knowledge, ground, np.stack([same] * len(together)))
        return [answers[case.index] for case in cases]


def unrelated(case: Case, knowledge: PublicKnowledge) -> bool:
    """Whether a retraining is known to have begun anew and shares no model: its difference is no records' gradient."""
    return knowledge.facts.unlearning.get("shares") == "no model" and case.divergence is None


def invert(
    how: Search,
    cases: Sequence[Case],
    knowledge: PublicKnowledge,
    ground: Ground,
    starts: Array,
    labels: Array | None = None,
) -> dict[int, Reconstruction]:
    """Invert cases of one size k and one model before.

    Args:
        how: the search.
        cases: at least one.
        knowledge: the rule and the public sample.
        ground: of this knowledge.
        starts: ``[c, restarts, k, d]`` where the restarts of each case begin.
        labels: ``[c, k]`` classes of the records in ``starts``; ``labels_of`` where not given.

    Returns:
        Answers by case index.
    """
    features = {i: seen for i, case in enumerate(cases) if (seen := features_of(case, knowledge.model)) is not None}
    found: dict[int, Reconstruction] = {}
    for rows in (list(features), [i for i in range(len(cases)) if i not in features]):
        if rows:
            told = None if labels is None else labels[rows]
            seen_there = np.stack([features[i] for i in rows]) if rows[0] in features else None
            found |= _inverted(how, [cases[i] for i in rows], knowledge, ground, starts[rows], told, seen_there)
    return found


def _inverted(
    how: Search,
    cases: Sequence[Case],
    knowledge: PublicKnowledge,
    ground: Ground,
    starts: Array,
    labels: Array | None,
    seen: Array | None,
) -> dict[int, Reconstruction]:
    """The same of cases of which either all or none gave their features away, ``seen [c, p]``."""
    model, quick = precise_model(knowledge), quick_model(knowledge)
    before = model.tensors(cases[0].before)
    change = torch.stack([flat(model.tensors(case.after), model) - flat(before, model) for case in cases])
    path = path_of(cases[0])
    public = PublicGradients.of(knowledge, path) if len(path) > 1 else None
    if knowledge.facts.model.task == "regression":
        # Of a squared error only residual times gradient shows; the bias change is the sum of the residuals.
        bias = model.last_layer[1]
        moved = [float(case.after[bias][0]) - float(case.before[bias][0]) for case in cases]
        shares = torch.tensor(moved, dtype=torch.float64) / (knowledge.facts.step * cases[0].size)
        y = shares[:, None].expand(-1, cases[0].size).to(torch.float32)
    else:
        inferred = labels_of(cases, knowledge, public) if labels is None else labels
        y = torch.tensor(np.stack(list(inferred)).astype(np.int64))
    target = change if public is None else public.whiten(change.to(torch.float32))
    target = target / target.norm(dim=1, keepdim=True).clamp(min=_TINY)
    match = matching(quick, [quick.tensors(params) for params in path], None if public is None else public.whiten)
    sought = MatchingTarget(ground, match, y, target.to(torch.float32))
    if seen is not None:
        sought = _seeking_features(sought, quick, quick.tensors(path[0]), seen)
    x, misfit = how.search(sought, torch.tensor(starts))
    x = x.double()
    if knowledge.facts.model.task == "regression":
        with torch.no_grad():
            y = model.scores(before, x)[..., 0] - y
    return {case.index: answer(case, x[i], y[i], misfit[i]) for i, case in enumerate(cases)}


def _seeking_features(sought: MatchingTarget, model: Model, at: dict[str, Tensor], seen: Array) -> MatchingTarget:
    """Of records whose features ``[c, p]`` were given away: they alone at first, then beside the gradient."""
    begin = sought.target.shape[1]
    early = features_apart(model, at, begin)
    target = torch.cat([sought.target, torch.tensor(seen, dtype=torch.float32)], 1)
    return replace(sought, match=added(sought.match, early, _FEATURES, begin), target=target, early=early)


def quick_model(knowledge: PublicKnowledge) -> Model:
    """The architecture in float32, in which searches run: what is read is a float32 release, or noisier than that."""
    return model_of(knowledge.facts.model.model_copy(update={"dtype": "float32"}))


def answer(case: Case, x: Tensor, y: Tensor, misfit: Tensor) -> Reconstruction:
    """What was found for one deletion, with granted labels where there are any."""
    known = y.numpy().astype(np.float64) if case.labels is None else np.array(case.labels, np.float64)
    return Reconstruction(case=case.index, x=x.numpy(), y=known, notes={"matching_loss": float(misfit)})


def together_of(knowledge: PublicKnowledge, restarts: int) -> int:
    """How many cases of so many restarts are descended at once."""
    return max(1, min(_TOGETHER, _NUMBERS // knowledge.model.size) // restarts)
