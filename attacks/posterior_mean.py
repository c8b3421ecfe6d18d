"""What was the record, on average over all that the noise leaves possible?"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy.special import logsumexp, softmax

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guesses
from palimpsest.attacks.likelihood_ratio import log_ratios
from palimpsest.attacks.observations import Observation, observations, precise_of
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import theta
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Reconstruction
from palimpsest.simulator.world.specs import Frozen

_SWEEPS = 8
_LOOSENESS = 0.1
"""How much a record's residual differs, in every output, from that of what it is believed to be."""
_SHRINKAGE = 0.1
"""Share of a class's covariance that is that of all classes: some have few public records."""
_LEAST = 1e-3
"""Variance of every column of x~ over the mean of all, at least, but for the intercept's."""
_TINY = 1e-300


class PosteriorMean(Frozen):
    """The posterior mean of the deleted record, which minimises the expected squared error: judge it by its MSE.

    Linear heads on the records themselves: o = -x~ r^T + noise is linear in x~ for a given residual r, and each class
    of the public sample is a Gaussian prior, so that every class has a posterior in closed form. r is that at its mean
    and that which fits what was observed, as the noise allows, looked for again a few times; classes are weighed by
    their evidence. Without noise this is the record, with much of it the public mean. Other models: the mean of the
    public records, weighed by their likelihood ratios.
    What other records add is taken to be as large everywhere as along its largest direction: records look alike.
    Several records deleted at once all get the one mean.
    """

    card: ClassVar[Card] = CARDS["posterior-mean"]
    kind: Literal["posterior-mean"] = "posterior-mean"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Every case by itself; silent ones get the public mean."""
        answers = guesses([case for case in cases if case.silent], knowledge, no_signal=True)
        loud = [case for case in cases if not case.silent]
        model = knowledge.model
        if model.linear and not model.maps and loud:
            response = _response(loud[0], knowledge)
            priors = [prior.through(response) for prior in _priors(knowledge)]
            answers |= {case.index: _of_head(case, knowledge, priors) for case in loud}
        elif loud:
            ratios = log_ratios(loud, knowledge, knowledge.x, knowledge.y)
            answers |= {case.index: _of_public(case, knowledge, ratios[case.index]) for case in loud}
        return [answers[case.index] for case in cases]


class _Prior:
    """z of one class: N(mean, V diag(values) V^T); of a regression, of all records.

    z is A^-1 x~ where that is what noise was added to, and x~ itself elsewhere.

    Args:
        label: of the class, or the mean target.
        share: of the public records.
        mean, covariance: ``[p + 1]`` and ``[p + 1, p + 1]`` of z.
        response: ``[p + 1, p + 1]`` A; None: z is x~.
    """

    def __init__(
        self, label: float, share: float, mean: Array, covariance: Array, response: Array | None = None
    ) -> None:
        self.label, self.share, self.mean, self.response = label, share, mean, response
        self.values, self.vectors = np.linalg.eigh(covariance)
        self.values = np.maximum(self.values, 0.0)

    def through(self, response: Array | None) -> "_Prior":
        """The prior of A^-1 x~, of this one of x~."""
        if response is None:
            return self
        root = np.linalg.solve(response, self.vectors * np.sqrt(self.values))
        return _Prior(self.label, self.share, np.linalg.solve(response, self.mean), root @ root.T, response)

    def record(self, z: Array) -> Array:
        """``[p + 1]`` the x~ of a z."""
        return z if self.response is None else self.response @ z

    def reader(self, z: Array, variance: Array, residual: Array) -> Array:
        """``[p + 1]`` w, by which -w @ (-z r^T + noise) is r, with the least error: w @ z is 1.

        Of z = A^-1 x~, which differs much from record to record, it reads what they have in common.

        Args:
            z: what it is believed to be.
            variance: ``[Q]`` of the noise.
            residual: ``[Q]`` what r is believed to be.
        """
        if self.response is None:
            reader: Array = z / float(z @ z)
            return reader
        unsure = self.values * float(np.mean(residual**2)) + float(np.mean(variance))
        weights = self.vectors @ ((self.vectors.T @ self.mean) / unsure)
        return weights / float(weights @ self.mean)

    def posterior(self, information: Array, precision: float) -> tuple[Array, float]:
        """Of z observed as ``information / precision`` with variance 1 / ``precision``: mean, and log evidence.

        The evidence is log p(observation) less what is the same for every class.
        """
        along = self.vectors.T @ (information - precision * self.mean)
        shrunk = self.values / (1.0 + precision * self.values)
        mean = self.mean + self.vectors @ (shrunk * along)
        evidence = float(information @ self.mean - 0.5 * precision * self.mean @ self.mean)
        evidence += 0.5 * float((shrunk * along**2).sum() - np.log1p(precision * self.values).sum())
        return mean, evidence


def _priors(knowledge: PublicKnowledge) -> list[_Prior]:
    """One for each class that has a public record."""
    x = np.asarray(knowledge.x, np.float64)
    features = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = np.asarray(knowledge.y, np.float64)
    if knowledge.facts.model.task == "regression":
        return [_Prior(float(y.mean()), 1.0, features.mean(axis=0), _spread(features, features, _SHRINKAGE))]
    members = [features[y == label] for label in np.unique(y)]
    around = np.concatenate([some - some.mean(axis=0) for some in members])
    return [
        _Prior(label, len(some) / len(x), some.mean(axis=0), _spread(some, around, _SHRINKAGE))
        for label, some in zip(np.unique(y).tolist(), members, strict=True)
    ]


def _spread(some: Array, around: Array, share: float) -> Array:
    """``[p + 1, p + 1]`` covariance of some records, drawn towards that of all; the intercept has none."""
    centred, everybody = some - some.mean(axis=0), around - around.mean(axis=0)
    covariance = (1.0 - share) * centred.T @ centred / len(some) + share * everybody.T @ everybody / len(around)
    covariance[np.diag_indices(len(covariance) - 1)] += _LEAST * np.trace(covariance) / len(covariance)
    spread: Array = covariance
    return spread


def _response(case: Case, knowledge: PublicKnowledge) -> Array | None:
    """A of two solutions whose parameters are noised: the gradient is then seen as A^-1 times it; else None."""
    solved = observations(case, knowledge)[0]().solved
    return None if solved is None else solved.penalised


def _of_head(case: Case, knowledge: PublicKnowledge, priors: Sequence[_Prior]) -> Reconstruction:
    seen = [make() for make in observations(case, knowledge)]
    read = [(each, *_as_matrix(each, knowledge), _scores(each)) for each in seen]  # once: the same for each class
    found = [_of_class(read, prior, knowledge) for prior in priors]
    evidence = np.array([value + np.log(prior.share) for (_, _, value), prior in zip(found, priors, strict=True)])
    weights = softmax(evidence)
    mean = weights @ np.stack([x for x, _, _ in found])
    y = float(found[int(weights.argmax())][1])
    return _answer(case, mean, y)


def _of_class(
    read: Sequence[tuple[Observation, Array, Array, Array]], prior: _Prior, knowledge: PublicKnowledge
) -> tuple[Array, float, float]:
    """x, y and the log evidence, where the record is of this class.

    Args:
        read: observations, each with what ``_as_matrix`` and ``_scores`` make of it.
        prior: of the class.
        knowledge: public facts.
    """
    z, y, evidence = prior.mean, prior.label, 0.0
    for _ in range(_SWEEPS):
        x = prior.record(z)
        information, precision, of_target = np.zeros(len(z)), 0.0, []
        for each, matrix, variance, scores in read:
            residual = _residual(x @ scores, y, knowledge)
            length = max(float(np.linalg.norm(residual) * np.linalg.norm(x)), _TINY)
            cut = min(1.0, each.clip / length) if each.clip else 1.0
            reader = prior.reader(z, variance, residual)
            fitted, doubt = -(reader @ matrix), variance * float(reader @ reader)
            trusted = _LOOSENESS**2 / (_LOOSENESS**2 + doubt)  # what was observed tells the residual as well
            factor = (1.0 - trusted) * cut * residual + trusted * fitted
            information -= matrix @ (factor / variance)
            precision += float(factor @ (factor / variance))
            of_target.append(float(fitted[0]) / cut + float(x @ scores[:, 0]))
        z, evidence = prior.posterior(information, precision)
        if knowledge.facts.model.task == "regression":
            y = float(np.mean(of_target))
    return prior.record(z)[:-1], y, evidence


def _as_matrix(seen: Observation, knowledge: PublicKnowledge) -> tuple[Array, Array]:
    """``[p + 1, Q]`` what was observed of -z r^T, and ``[Q]`` the variance in each output's column."""
    outputs, width = knowledge.facts.model.outputs, precise_of(knowledge).inputs
    deviation = np.broadcast_to(seen.deviation, seen.observed.shape)
    weights = seen.observed[: outputs * width].reshape(outputs, width)
    matrix = np.concatenate([weights.T, seen.observed[None, outputs * width :]])
    others = float(np.linalg.eigvalsh(seen.rest @ seen.rest.T)[-1]) if len(seen.rest) else 0.0
    expected = float(seen.probability @ seen.readings)
    variance = deviation[outputs * width :] ** 2 + others
    return matrix / max(expected, _TINY), variance / max(expected, _TINY) ** 2


def _scores(seen: Observation) -> Array:
    """``[p + 1, Q]`` by which a record's scores are x~ @ it."""
    matrix: Array = np.mean([theta(params) for params in seen.at], axis=0)
    return matrix


def _residual(scores: Array, y: float, knowledge: PublicKnowledge) -> Array:
    model = precise_of(knowledge)
    label = torch.tensor([y]) if knowledge.facts.model.task == "regression" else torch.tensor([int(y)])
    residual: Array = model.residual(torch.tensor(scores[None]), label).numpy()[0]
    return residual


def _of_public(case: Case, knowledge: PublicKnowledge, ratios: Array) -> Reconstruction:
    weights = np.exp(ratios - logsumexp(ratios))
    y = np.asarray(knowledge.y, np.float64)
    if knowledge.facts.model.task == "regression":
        return _answer(case, weights @ knowledge.x, float(weights @ y))
    votes = np.bincount(y.astype(np.int64), weights=weights)
    return _answer(case, weights @ knowledge.x, float(votes.argmax()))


def _answer(case: Case, x: Array, y: float) -> Reconstruction:
    labels = np.full(case.size, y) if case.labels is None else np.asarray(case.labels, np.float64)
    return Reconstruction(case=case.index, x=np.tile(np.asarray(x, np.float64), (case.size, 1)), y=labels)
