"""How often attacks succeeded, beside how often they can at most: ``privacy.bounds`` of ``results.json``.

An event is judged once a deletion: it happened if it did for any of the records deleted together. gamma is how probable
that event can be at most, over the draw of the deletion, training and attack; it bounds no median of a score.
What somebody achieves who saw no model, kappa, follows for ``top1`` from how deletions are drawn (``exact``). For the
other events it is that of the best guess that was found on public records (``estimate``): a better guess may exist, and
gamma is an estimate too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from palimpsest.defenses.bound import group_blow_up
from palimpsest.server.session import Processed
from palimpsest.simulator.planning.drawing import weighed_chance
from palimpsest.simulator.results.intervals import share_interval
from palimpsest.simulator.world.privacy.account import Account, Spending
from palimpsest.simulator.world.records import Array

THRESHOLDS = {"cosine": 0.9, "cosine_centred": 0.5}
"""Columns of scores and from where on an answer counts as the record: very alike, and clearly more than the mean."""

_ERROR = 0.05
_SHIFTS = 4
_WIDER, _STEPS = 0.3, 10
_LARGEST = 1000
_FEWEST = 20

Group: TypeAlias = Sequence[Spending]
"""What each unit that one deletion concerns has spent."""


def spans_of(account: Account, processed: Sequence[Processed], solved: bool) -> dict[str, list[Group] | None]:
    """What the units of each deletion have spent: on all that was broadcast, and on the two models around it alone.

    All that was broadcast are the releases of every branch: where requests are alternatives to one another, each of the
    other branches has read the unit again, under noise of its own. On the branch of its deletion no release after it
    has read it. Where models are solved for (``solved``), each with noise of its own, the model before the deletion has
    read the unit once; where they are trained, all that was spent on the branch went into it.
    """
    if account.unit is None:
        return {"pair": None, "sequence": None}
    branch: list[Group] = []
    sequence: list[Group] = []
    for p in processed:
        units = [
            (client, record)
            for client, records in p.case.request.forget.items()
            for record in (records if account.unit == "record" else records[:1])
        ]
        branch.append([account.spent(p.case.branch, client, record) for client, record in units])
        sequence.append([account.spent_on_all_branches(client, record) for client, record in units])
    once: list[Group] = [[dict.fromkeys(spending, 1) for spending in group] for group in branch]
    return {"pair": once if solved else branch, "sequence": sequence}


@dataclass(frozen=True)
class Share:
    """A share of independent trials, with its Clopper-Pearson interval."""

    found: float
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, trials: int, error: float) -> "Share":
        """Estimate it; the interval misses the truth with probability ``error`` at most."""
        return cls(successes / trials, *share_interval(successes / trials, trials, error))


@dataclass(frozen=True)
class Prior:
    """What somebody achieves who saw no model.

    Attributes:
        share: of one guess for one record.
        how: ``exact``, or ``estimate``: of the best guess that was found.
        uneven: whether it depends on which records are drawn. How many are deleted together may then depend on it too.
    """

    share: Share
    how: Literal["exact", "estimate"]
    uneven: bool = False

    def counted(self, sizes: Array) -> Array:
        """``[cases]`` how many records to reckon with in each case: where draws are uneven, the most of any."""
        return np.full_like(sizes, sizes.max()) if self.uneven else sizes


def bounds(
    scores: Mapping[str, pd.DataFrame],
    spans: Mapping[str, Sequence[Group] | None],
    public_x: Array,
    mean: Array,
    comparisons: int,
    rng: np.random.Generator,
    strata: Array | None = None,
) -> list[dict[str, Any]]:
    """A row for each attack, event and span of releases.

    gamma is the mean over deletions of each one's bound, at the upper end of kappa's interval; ``success`` is how often
    the event happened, with an interval. Intervals hold together with 95 % (Bonferroni). They take deletions for
    independent draws; those of one arm share the noise of the model before them, so that several seeds say more.

    Args:
        scores: of each attack, as ``score_attack`` returns them.
        spans: what the adversary sees (``pair``, ``sequence``) -> what the units of each case have spent on it; None:
            no differential privacy.
        public_x: ``[n, d]`` records of the same distribution as the deleted ones.
        mean: ``[d]`` the public mean that scores are centred by.
        comparisons: rows of this kind in the whole run.
        rng: splits the public records.
        strata: how deletions are drawn, of ``strata_of``; None: not known, so that the chance
            of ``top1`` is an estimate too.
    """
    error = _ERROR / comparisons
    priors = {
        f"{column}>={threshold:g}": Prior(share, "estimate")
        for column, threshold in THRESHOLDS.items()
        if (share := prior(public_x - (mean if column == "cosine_centred" else 0.0), threshold, error, rng)) is not None
    }
    return [
        row
        for attack, frame in scores.items()
        if "cosine_centred" in frame
        for row in _bounds_of(attack, frame, spans, priors | _chance(frame, strata), error)
    ]


def _bounds_of(
    attack: str,
    frame: pd.DataFrame,
    spans: Mapping[str, Sequence[Group] | None],
    priors: Mapping[str, Prior],
    error: float,
) -> Iterator[dict[str, Any]]:
    """The rows of one attack."""
    sizes = frame.groupby("case").size().to_numpy()
    for event, happened in _events(frame).items():
        known = priors.get(event)
        if known is None:
            continue
        success, counted = Share.of(int(happened.sum()), len(happened), error), known.counted(sizes)
        for span, groups in spans.items():
            yield {
                "event": event,
                "attack": attack,
                "span": span,
                "n": len(happened),
                "kappa": float(_per_case(known.share.found, counted).mean()),
                "kappa_is": known.how,
                "gamma": _gamma(known.share.high, counted, groups),
                "success": success.found,
                "interval": [success.low, success.high],
            }


def prior(points: Array, threshold: float, error: float, rng: np.random.Generator) -> Share | None:
    """How often the best constant guess has at least this cosine with a record; None where records are too few.

    The guess is looked for on one half of the records (from each of them, moving to the mean direction of all within
    reach; once with this reach from the start, and once with a wide reach that narrows to it), and judged on the other
    half. It is the best that was found, and not the best there is.
    """
    norms = np.linalg.norm(points, axis=1)
    units = (points[norms > 0] / norms[norms > 0, None])[rng.permutation(int((norms > 0).sum()))[:_LARGEST]]
    fitted, held = units[::2], units[1::2]
    if len(held) < _FEWEST:
        return None
    guesses = np.concatenate([_shifted(fitted, reach) for reach in _reaches(threshold)])
    best = guesses[np.argmax((guesses @ fitted.T >= threshold).sum(axis=1))]
    return Share.of(int((held @ best >= threshold).sum()), len(held), error)


def _reaches(threshold: float) -> list[list[float]]:
    """Cosines within which directions move, step by step: narrow from the start, and from wide to narrow."""
    narrow = [threshold] * _SHIFTS
    return [narrow, [*np.linspace(threshold - _WIDER, threshold, _STEPS), *narrow]]


def _shifted(units: Array, reaches: Sequence[float]) -> Array:
    """All places of directions ``[n, d]``, each of which moves to the mean of those within reach, again and again."""
    moved = [units]
    for reach in reaches:
        pulled = (moved[-1] @ units.T >= reach) @ units
        moved.append(pulled / np.maximum(np.linalg.norm(pulled, axis=1, keepdims=True), 1e-300))
    places: Array = np.concatenate(moved)
    return places


def _events(frame: pd.DataFrame) -> dict[str, Array]:
    """Event -> ``[cases]`` whether it happened for any record of the case."""
    rows = {f"{column}>={threshold:g}": frame[column] >= threshold for column, threshold in THRESHOLDS.items()}
    if "rank" in frame and int(frame["candidates"].iloc[0]) > 1:
        rows = {"top1": frame["rank"] == 1, **rows}
    return {event: happened.groupby(frame["case"]).any().to_numpy() for event, happened in rows.items()}


def _chance(frame: pd.DataFrame, strata: Array | None) -> dict[str, Prior]:
    """How often an answer without sight of it ranks the true record first; nothing where there are no candidates.

    Among candidates of its own distribution that is 1 in so many. Deletions that are drawn otherwise than candidates
    have the weight of how they are drawn.
    """
    if "candidates" not in frame:
        return {}
    chance = 1.0 / int(frame["candidates"].iloc[0])
    if strata is None:
        return {"top1": Prior(Share(chance, chance, chance), "estimate")}
    weighed = weighed_chance(strata, chance)
    return {"top1": Prior(Share(weighed, weighed, weighed), "exact", uneven=len(strata) > 1)}


def _per_case(kappa: float, sizes: Array) -> Array:
    """Of one guess for one record -> of k guesses, the best of which is taken for each of k records."""
    several: Array = np.minimum(1.0, kappa * np.asarray(sizes, dtype=np.float64) ** 2)
    return several


def _gamma(kappa: float, sizes: Array, groups: Sequence[Group] | None) -> float:
    if groups is None:
        return 1.0
    pairs = zip(_per_case(kappa, sizes), groups, strict=True)
    return float(np.mean([group_blow_up(group, challenge) for challenge, group in pairs]))
