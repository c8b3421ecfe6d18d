"""Which of these records was it, by the likelihood ratio under noise of known strength?"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from scipy.special import logsumexp

from palimpsest.attacks import CARDS
from palimpsest.attacks.observations import Observation, by_round, precise_of
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Params, Scores
from palimpsest.simulator.world.specs import Frozen


class LikelihoodRatio(Frozen):
    """Score every record of the challenge by log p(releases | it was deleted) / p(releases | no record was).

    A matched filter over all noised steps that read the record: for a clipped gradient g, an observation o and the
    inverse covariance P, b g^T P o - b^2 g^T P g / 2, summed over rounds; where Poisson coins decide how often the
    record was read, the mixture over b.
    Exact, and then optimal (Neyman and Pearson), for one noised step a round and an adversary who knows all other
    records (``rest``), where there is one deletion. Of several, ``rest`` lacks the records of all: the training less
    the unlearning is read, in which the others cancel, at twice the variance of the noise. Several local steps are
    linearised, the rest is integrated by the public sample: the strongest attack that we have under noise, not
    the strongest that there is.
    Several records deleted at once are each judged as if they were alone.
    """

    card: ClassVar[Card] = CARDS["likelihood-ratio"]
    kind: Literal["likelihood-ratio"] = "likelihood-ratio"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Scores]:
        """Add up the evidence of all rounds."""
        assert knowledge.challenge is not None  # the session saw to it
        loud = [case for case in cases if not case.silent]
        totals = log_ratios(loud, knowledge, knowledge.challenge.x, knowledge.challenge.y)
        nothing = np.zeros(len(knowledge.challenge.y))
        return [Scores(c.index, totals.get(c.index, nothing), no_signal=c.index not in totals) for c in cases]


def log_ratios(cases: Sequence[Case], knowledge: PublicKnowledge, x: Array, y: Array) -> dict[int, Array]:
    """Case -> ``[m]`` log likelihood ratio of each record ``x [m, d]`` of class or target ``y [m]``."""
    model = precise_of(knowledge)
    totals = {case.index: np.zeros(len(y)) for case in cases}
    last: tuple[tuple[Params, ...], Array] | None = None
    for case, seen in by_round(cases, knowledge):
        if last is None or seen.solved is not None or not _same(last[0], seen.at):
            last = seen.at, seen.gradients(model, x, y)
        totals[case.index] += log_ratio(seen, last[1])
    return totals


def log_ratio(seen: Observation, gradients: Array) -> Array:
    """``[m]`` what one observation says of records whose gradients are ``[m, parameters]``."""
    return mixture(gradients @ seen.precise(seen.observed), seen.squares(gradients), seen.readings, seen.probability)


def mixture(along: Array, squares: Array, readings: Array, probability: Array) -> Array:
    """``[m]`` log of the sum over b of p(b) exp(b ``along`` - b^2 ``squares`` / 2).

    Args:
        along, squares: ``[m]`` g^T P o and g^T P g.
        readings, probability: ``[b]`` b and p(b).
    """
    exponents = readings[:, None] * along - 0.5 * readings[:, None] ** 2 * squares
    ratios: Array = logsumexp(exponents, axis=0, b=probability[:, None])
    return ratios


def _same(one: Sequence[Params], other: Sequence[Params]) -> bool:
    """Whether these are the same objects: models of a transcript are loaded once while they are in use."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
