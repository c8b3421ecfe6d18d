"""What a client that left had: its case mix, from the change of the last layer."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from palimpsest.attacks import CARDS
from palimpsest.attacks.class_counts import ClassCounts, class_counts
from palimpsest.attacks.class_means import Estimate, class_means
from palimpsest.attacks.contributions import Contributions, contributions, public_contributions
from palimpsest.attacks.divergence import Reads
from palimpsest.attacks.evidence import operator_of
from palimpsest.attacks.last_layer import last_layers
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.profile import Profile
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case
from palimpsest.simulator.world.specs import Frozen

_ENDS = (0.025, 0.975)


class ClientProfile(Frozen):
    """How many records of each class a leaver had, and the means of its records, with 95 % intervals.

    G = sum of h~ r^T over the deleted records, h~ what the last layer sees, is a sum of one term a record, whose mean
    and spread for each class the public sample tells. Counts: those that explain G, weighed by generalised least
    squares and a prior about the public shares, the size being granted. Means: public ones, moved by what the counts
    leave of G. At the optimum of a linear model G follows from the public Hessian; where training and unlearning share
    their first models, from the first round that differs, as the leaver's own message. Intervals take in the spread of
    records within classes, the public sample's size and what is not known of the round; where G is explained worse
    than that, they widen. Granted labels are believed. Where nothing changed: the public sample's shares, flagged.

    Attributes:
        operator: as for ``hrec``; of linear heads only.
        reads: ``pair``: the models around the unlearning; else the first round that differs, where there is one.
    """

    card: ClassVar[Card] = CARDS["client-profile"]
    kind: Literal["client-profile"] = "client-profile"
    operator: Literal["auto", "identity", "hessian"] = "auto"
    reads: Reads = "auto"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Profile]:
        """Answer case by case; the draws of a case do not depend on the others."""
        seed = int(rng.integers(2**63))
        loud = [case for case in cases if not case.silent]
        linear = knowledge.model.linear
        operator = operator_of(knowledge, self.operator, loud, self.reads) if linear else "identity"
        layers = last_layers(loud, knowledge, operator, self.reads)
        answers = []
        for case in cases:
            draws = np.random.default_rng([seed, case.index])
            layer = layers.get(case.index)
            seen = public_contributions(knowledge) if layer is None else contributions(layer, knowledge)
            answers.append(_profile(case, seen, knowledge, draws, no_signal=layer is None))
        return answers


def _profile(
    case: Case, seen: Contributions, knowledge: PublicKnowledge, rng: np.random.Generator, no_signal: bool
) -> Profile:
    counts = class_counts(seen, case.size, rng) if case.labels is None else _granted(seen, case.labels)
    draws = counts.draws
    low, high = (np.quantile(draws, end, axis=0, method="inverted_cdf").astype(np.float64) for end in _ENDS)
    of_classes, overall = class_means(counts, np.asarray(knowledge.x, np.float64))
    columns = _original(overall, knowledge)
    return Profile(
        case.index,
        draws.mean(axis=0),
        low,
        high,
        of_classes.mean,
        of_classes.low,
        of_classes.high,
        columns.mean,
        columns.low,
        columns.high,
        no_signal,
    )


def _granted(seen: Contributions, labels: Sequence[float]) -> ClassCounts:
    """Counts that need no inference."""
    counts = np.bincount(np.asarray(labels, np.int64), minlength=seen.classes)
    seen = seen.timed(counts)
    return ClassCounts(np.tile(counts, (2, 1)), seen.covariance(counts.astype(np.float64), seen.strays), 1.0, seen)


def _original(estimate: Estimate, knowledge: PublicKnowledge) -> Estimate:
    """Columns before the public sample's mean and scale were taken out of them."""
    statistics = knowledge.facts.preprocessing
    if not statistics:
        return estimate
    mean, scale = (np.asarray(statistics[name], np.float64) for name in ("mean", "scale"))
    back: tuple[Array, ...] = tuple(part * scale + mean for part in (estimate.mean, estimate.low, estimate.high))
    return Estimate(*back)
