"""Was this record trained on and unlearned, does it stay, or was it never there? By shadows of all three."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.attacks import CARDS
from palimpsest.attacks.deletion_inference import confidence
from palimpsest.attacks.federated_shadows import FederatedShadows, ShadowRows
from palimpsest.attacks.shadow_rules import by_rounds
from palimpsest.attacks.shadows import Shadow, shadow_of
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.queries import QueriedCase
from palimpsest.simulator.world.records import Array, Challenge, Scores
from palimpsest.simulator.world.specs import Frozen

_EPOCHS = 5
_TRUST = 8.0
"""How many values the variance of all records is worth beside those of one record."""
_LEAST = 1e-8
"""Variance of any value, in that of the confidence before: a drop need not vary, where requests are ignored."""
_BEFORE, _AFTER, _DROP = range(3)


class ULira(Frozen):
    """Likelihoods of a record's confidence where it was unlearned, stays, or never was (U-LiRA, Hayes et al. 2024).

    Each shadow is trained on half of the records asked about and as much of the public sample as the model attacked had
    records, half of it at most; it unlearns some of the former by the rule attacked (``make_shadows``), so that each
    record has shadows with it and without it, and some that unlearned it. Its confidence before, after, and the drop
    have one normal law in each of these worlds; few values of a record are drawn towards all records'. Answers are log
    likelihood ratios:

    - deleted: after and drop, if unlearned, against the likelier of retained and never there;
    - member_before: the model before alone, trained on it against never there;
    - member_after: the model after alone, trained and unlearned against never there, as in the paper;
    - retained: after and drop, if it stays, against never there: does the deletion of others expose it?

    Networks of federated averaging have shadows that are trained by the same rounds (``FederatedShadows``), and
    unlearned as the rule says: retrained, a step up, or fine-tuned; where these cannot follow the public plan, shadows
    are those of ``make_shadows``. Where requests are ignored, nothing is unlearned. Rules that shadows cannot carry out
    are refused (``not_simulated``): laws of another unlearning would say nothing. The paper has hundreds of models;
    these are few.
    Where no answer changed: zeros for deleted, flagged. Guarantee: none.

    Attributes:
        shadows: models trained.
        deletions: from each of them.
    """

    card: ClassVar[Card] = CARDS["u-lira"]
    kind: Literal["u-lira"] = "u-lira"
    shadows: int = Field(default=16, ge=2)
    deletions: int = Field(default=64, ge=1)

    def ask(self, cases: Sequence[QueriedCase], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Scores]:
        """Learn from shadow deletions of the median size once, then judge every case.

        Raises:
            ValueError: there is one record to judge, and shadows train on half of them.
        """
        challenge = knowledge.challenge
        assert challenge is not None  # the session saw to it
        if len(challenge.x) < 2:
            raise ValueError("attack u-lira trains on half of the records asked about: there must be two at least")
        size = int(np.median([case.size for case in cases]))
        worlds = self._worlds(knowledge, challenge, size, np.random.default_rng(int(rng.integers(2**31))))
        answers = []
        for case in cases:
            before, after = case.before(challenge.x).scores, case.after(challenge.x).scores
            assert before is not None
            assert after is not None
            seen = _statistics(
                confidence(before, challenge.y, knowledge), confidence(after, challenge.y, knowledge)[None]
            )[0]
            answers.append(worlds.scores(case.index, seen, np.array_equal(before, after)))
        return answers

    def _worlds(
        self, knowledge: PublicKnowledge, challenge: Challenge, size: int, rng: np.random.Generator
    ) -> "_Worlds":
        pool = replace(
            knowledge,
            x=np.concatenate([np.asarray(knowledge.x, np.float64), challenge.x]),
            y=np.concatenate([np.asarray(knowledge.y), np.asarray(challenge.y).astype(knowledge.y.dtype)]),
            rest=None,
        )
        known, asked = len(knowledge.x), len(challenge.x)
        laws = {name: _Law(asked) for name in ("deleted", "retained", "never")}
        rows = self._rows(knowledge, asked, size, rng)
        for shadow in _shadows(pool, rows, challenge.x, rng):
            _count(laws, shadow, known, challenge, knowledge)
        return _Worlds(laws["deleted"], laws["retained"], laws["never"])

    def _rows(
        self, knowledge: PublicKnowledge, asked: int, size: int, rng: np.random.Generator
    ) -> Iterator[ShadowRows]:
        """What each shadow trains on and unlearns: half of what is asked about, and public records."""
        known = len(knowledge.x)
        for number in range(self.shadows):
            if number % 2 == 0:  # every second shadow has the records that the one before it lacks
                order = rng.permutation(asked)
            halves = np.array_split(order, 2)
            chosen = known + halves[number % 2]
            others = max(1, min(known // 2, knowledge.facts.n - len(chosen)))
            members = np.sort(np.concatenate([rng.permutation(known)[:others], chosen]))
            yield ShadowRows(members, members[self._drawn(members, known, size, rng)])

    def _drawn(self, members: Array, known: int, size: int, rng: np.random.Generator) -> Array:
        """``[c, k]`` places among the members of records that are asked about, each as often as any other."""
        places = np.flatnonzero(members >= known)
        taken = max(1, min(size, len(places) // 4))
        turns = -(-self.deletions * taken // len(places))
        order = np.concatenate([rng.permutation(places) for _ in range(turns)])
        return order[: self.deletions * taken].reshape(self.deletions, taken)


def _shadows(
    pool: PublicKnowledge, rows: Iterable[ShadowRows], asked: Array, rng: np.random.Generator
) -> Iterator[Shadow]:
    """Networks of federated averaging are trained together, and by rounds; other models one after the other."""
    if by_rounds(pool):
        yield from FederatedShadows(pool, asked, rng).of(list(rows))
        return
    for of_shadow in rows:
        places = np.searchsorted(of_shadow.members, of_shadow.deleted)
        yield shadow_of(pool, of_shadow.members, places, asked, _EPOCHS, rng)


def _count(
    laws: dict[str, "_Law"], shadow: Shadow, known: int, challenge: Challenge, knowledge: PublicKnowledge
) -> None:
    """Add what a shadow says of each record to the law of the world that the record is in."""
    before = confidence(shadow.before, challenge.y, knowledge)
    ignored = knowledge.facts.unlearning.get("method") == "none"
    shown = [shadow.before] * len(shadow.after) if ignored else shadow.after
    after = np.stack([confidence(each, challenge.y, knowledge) for each in shown])
    values = _statistics(before, after)
    rows = known + np.arange(len(challenge.x))
    inside = np.isin(rows, shadow.members)
    gone = np.stack([np.isin(rows, each) for each in shadow.deleted])
    laws["deleted"].add(values, gone)
    laws["retained"].add(values, inside & ~gone)
    laws["never"].add(values, np.broadcast_to(~inside, gone.shape))


def _statistics(before: Array, after: Array) -> Array:
    """``[c, e, 3]`` confidence before, after, and their difference, from ``before [e]`` and ``after [c, e]``."""
    level = np.broadcast_to(before, after.shape)
    return np.stack([level, after, level - after], axis=-1)


class _Law:
    """Normal laws of some values of each record, as far as they were seen."""

    def __init__(self, records: int) -> None:
        self.count = np.zeros((records, 1))
        self.sums, self.squares = np.zeros((records, 3)), np.zeros((records, 3))

    def add(self, values: Array, where: Array) -> None:
        """Count ``values [c, e, 3]`` where ``where [c, e]``."""
        kept = np.where(where[..., None], values, 0.0)
        self.count += where.sum(axis=0)[:, None]
        self.sums += kept.sum(axis=0)
        self.squares += (kept**2).sum(axis=0)

    def moments(self, centre: Array) -> tuple[Array, Array]:
        """``([e, 3], [e, 3])`` mean and deviation; few values are drawn to ``centre`` plus all records' distance."""
        average = self.sums / np.maximum(self.count, 1.0)
        seen = self.count[:, 0] > 0
        distance = (average - centre)[seen].mean(axis=0) if seen.any() else np.zeros(3)
        mean = (self.sums + centre + distance) / (self.count + 1.0)
        scatter = np.maximum(self.squares - 2.0 * mean * self.sums + self.count * mean**2, 0.0)
        pooled = scatter.sum(axis=0) / max(float(self.count.sum()), 1.0)
        variance = (scatter + _TRUST * pooled) / (self.count + _TRUST) + _LEAST * pooled[_BEFORE]
        return mean, np.sqrt(variance) + np.finfo(np.float64).tiny


@dataclass(frozen=True)
class _Worlds:
    """The laws of records that were unlearned, stay, or never were there."""

    deleted: _Law
    retained: _Law
    never: _Law

    def scores(self, index: int, seen: Array, silent: bool) -> Scores:
        """Log likelihood ratios of what is ``seen [e, 3]``."""
        centre = self.never.sums / np.maximum(self.never.count, 1.0)
        deleted, retained, never = (
            _log_likelihood(seen, *law.moments(centre)) for law in (self.deleted, self.retained, self.never)
        )
        pair = [_AFTER, _DROP]
        unlearned, stays, absent = (log[:, pair].sum(axis=1) for log in (deleted, retained, never))
        return Scores(
            index,
            deleted=np.zeros(len(seen)) if silent else unlearned - np.logaddexp(stays, absent),
            member_before=retained[:, _BEFORE] - never[:, _BEFORE],
            member_after=deleted[:, _AFTER] - never[:, _AFTER],
            no_signal=silent,
            retained=stays - absent,
        )


def _log_likelihood(values: Array, mean: Array, deviation: Array) -> Array:
    """``[e, 3]`` of normal laws."""
    log: Array = -0.5 * ((values - mean) / deviation) ** 2 - np.log(deviation)
    return log
