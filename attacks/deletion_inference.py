"""Was this record deleted? Asked of every record of the challenge, by the answers of the models before and after."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from palimpsest.attacks import CARDS
from palimpsest.attacks.shadows import Shadow, ShadowPlan, make_shadows
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.queries import QueriedCase
from palimpsest.simulator.world.records import Array, Challenge, Scores
from palimpsest.simulator.world.specs import Frozen


class _Inference(Frozen):
    """Ask both models about every record of the challenge, and judge by what shadow deletions did."""

    def ask(self, cases: Sequence[QueriedCase], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Scores]:
        """Learn from shadows of the median size once, then judge every case."""
        assert knowledge.challenge is not None  # the session saw to it
        size = int(np.median([case.size for case in cases]))
        judge = self._learn(knowledge, knowledge.challenge, size, np.random.default_rng(int(rng.integers(2**31))))
        scores = []
        for case in cases:
            before, after = case.before(knowledge.challenge.x).scores, case.after(knowledge.challenge.x).scores
            assert before is not None
            assert after is not None
            member, remains = judge.member(before), judge.member(after)
            silent = np.array_equal(before, after)
            deleted = np.zeros(len(before)) if silent else judge.deleted(before, after)
            scores.append(Scores(case.index, deleted, member, remains, silent))
        return scores

    def _learn(self, knowledge: PublicKnowledge, challenge: Challenge, size: int, rng: np.random.Generator) -> "_Judge":
        raise NotImplementedError


class _Judge:
    """What was learned: scores of the challenge's records from answers ``[e, Q]``, larger for yes."""

    def deleted(self, before: Array, after: Array) -> Array:
        """``[e]`` that a record was in the model before, and is not in the model after."""
        raise NotImplementedError

    def member(self, answers: Array) -> Array:
        """``[e]`` that one model was trained on a record."""
        raise NotImplementedError


class DeletionInference(_Inference):
    """An attack model on the answers of both models, trained on shadow deletions (Chen et al., CCS 2021).

    Positives are records that a shadow deletion took away; negatives are as many that the shadow never saw, and as many
    that it kept. The attack model is a logistic regression. A second one, on the answers of a single shadow, tells its
    members from others: its power on the model before is the gate. Beyond the paper, whose records have no labels, a
    record's own class comes first among its answers. Where no answer changed: zeros, flagged. Guarantee: none.

    Attributes:
        features: how the two answers are joined.
        ordered: whether the other classes are sorted by the first answer.
        shadows: models trained.
        deletions: from each of them.
    """

    card: ClassVar[Card] = CARDS["deletion-inference"]
    kind: Literal["deletion-inference"] = "deletion-inference"
    features: Literal["difference", "concatenation"] = "difference"
    ordered: bool = True
    shadows: int = Field(default=2, ge=1)
    deletions: int = Field(default=48, ge=2)

    def _learn(self, knowledge: PublicKnowledge, challenge: Challenge, size: int, rng: np.random.Generator) -> _Judge:
        x, y = np.asarray(knowledge.x, np.float64), np.asarray(knowledge.y)
        pairs: list[tuple[Array, Array]] = []
        singles: list[tuple[Array, Array]] = []
        for shadow in make_shadows(knowledge, ShadowPlan(self.shadows, self.deletions, size), x, rng):
            outside = np.setdiff1d(np.arange(len(x)), shadow.members)
            for after, gone in zip(shadow.after, shadow.deleted, strict=True):
                kept = rng.choice(np.setdiff1d(shadow.members, gone), len(gone))
                rows = np.concatenate([gone, rng.choice(outside, len(gone)), kept])
                truth = np.repeat([1, 0, 0], len(gone))
                pairs.append((self._joined(shadow.before[rows], after[rows], y[rows]), truth))
            singles.append((self._single(shadow, y), np.isin(np.arange(len(x)), shadow.members)))
        return _Learned(self, challenge, _fitted(pairs), _fitted(singles))

    def _single(self, shadow: Shadow, y: Array) -> Array:
        return own_first(shadow.before, y, shadow.before, self.ordered)

    def _joined(self, before: Array, after: Array, y: Array) -> Array:
        first, second = (own_first(answers, y, before, self.ordered) for answers in (before, after))
        return first - second if self.features == "difference" else np.concatenate([first, second], axis=1)


class _Learned(_Judge):
    def __init__(self, attack: DeletionInference, challenge: Challenge, pair: Pipeline, single: Pipeline) -> None:
        self._attack, self._y, self._pair, self._lone = attack, challenge.y, pair, single

    def deleted(self, before: Array, after: Array) -> Array:
        scores: Array = self._pair.decision_function(self._attack._joined(before, after, self._y))
        return scores

    def member(self, answers: Array) -> Array:
        scores: Array = self._lone.decision_function(own_first(answers, self._y, answers, self._attack.ordered))
        return scores


class DeletionLira(_Inference):
    """How unusual a record's loss of confidence is among deletions of others (after Carlini et al., S&P 2022).

    Confidence: the log-odds of a record's class where models answer with probabilities; its score less the largest
    other one (ridge, svm); minus the absolute error (regression). Its drop is compared with the normal law of the
    drops that this record had in shadow deletions of other records; its level before, and after, with that of its
    levels in shadows. These are all models that never had the record (the offline attack): U-LiRA of Hayes et al. 2024
    would train hundreds more with and without each record. It is thus a test of a population: one threshold over
    records, each against models of others, which says how well deleted records are told from others on average, and
    bounds nothing for the worst of them. Variances are averaged half and half with those of all
    records, as the shadows are few. Where no answer changed: zeros, flagged. Guarantee: none.

    Attributes:
        shadows: models trained.
        deletions: from each of them.
    """

    card: ClassVar[Card] = CARDS["deletion-lira"]
    kind: Literal["deletion-lira"] = "deletion-lira"
    shadows: int = Field(default=16, ge=2)
    deletions: int = Field(default=6, ge=1)

    def _learn(self, knowledge: PublicKnowledge, challenge: Challenge, size: int, rng: np.random.Generator) -> _Judge:
        drops, levels = [], []
        for shadow in make_shadows(knowledge, ShadowPlan(self.shadows, self.deletions, size), challenge.x, rng):
            level = confidence(shadow.before, challenge.y, knowledge)
            levels.append(level)
            drops += [level - confidence(after, challenge.y, knowledge) for after in shadow.after]
        return _Normal(knowledge, challenge, np.stack(drops), np.stack(levels))


class _Normal(_Judge):
    def __init__(self, knowledge: PublicKnowledge, challenge: Challenge, drops: Array, levels: Array) -> None:
        self._knowledge, self._y = knowledge, challenge.y
        self._drop, self._level = _law(drops), _law(levels)

    def deleted(self, before: Array, after: Array) -> Array:
        drop = confidence(before, self._y, self._knowledge) - confidence(after, self._y, self._knowledge)
        unusual: Array = (drop - self._drop[0]) / self._drop[1]
        return unusual

    def member(self, answers: Array) -> Array:
        unusual: Array = (confidence(answers, self._y, self._knowledge) - self._level[0]) / self._level[1]
        return unusual


def _law(values: Array) -> tuple[Array, Array]:
    """``[s, e] -> ([e], [e])`` mean and deviation of each record's values."""
    variance = values.var(axis=0)
    spread = np.sqrt(0.5 * variance + 0.5 * variance.mean()) + np.finfo(np.float64).tiny
    return values.mean(axis=0), spread


def confidence(answers: Array, y: Array, knowledge: PublicKnowledge) -> Array:
    """``[e]`` how sure answers ``[e, Q]`` are of each record's class, or how near to its target."""
    if knowledge.facts.model.task == "regression":
        near: Array = -np.abs(answers[:, 0] - y)
        return near
    true_class = np.take_along_axis(answers, y[:, None], 1)[:, 0]
    others = np.where(np.eye(answers.shape[1], dtype=bool)[y], -np.inf, answers)
    if not knowledge.model.probabilities:
        margin: Array = true_class - others.max(axis=1)
        return margin
    rest = np.where(np.isfinite(others), others, 0.0).sum(axis=1)
    odds: Array = np.log(np.maximum(true_class, 1e-300)) - np.log(np.maximum(rest, 1e-300))
    return odds


def own_first(answers: Array, y: Array, by: Array, ordered: bool) -> Array:
    """``[e, Q]`` answers with each record's own class first, and the others sorted by ``by``, or as they are.

    Regression: the absolute error.
    """
    if answers.shape[1] == 1:
        error: Array = np.abs(answers - y[:, None])
        return error
    key = -by if ordered else np.tile(np.arange(answers.shape[1], dtype=np.float64), (len(answers), 1))
    key = np.where(np.eye(answers.shape[1], dtype=bool)[y], -np.inf, key)
    return np.take_along_axis(answers, np.argsort(key, axis=1, kind="stable"), 1)


def _fitted(parts: Sequence[tuple[Array, Array]]) -> Pipeline:
    features, truth = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, truth)
