"""How often attacks succeeded, beside how often they can at most: ``privacy.bounds`` of ``results.json``.

An event is judged once a deletion: it happened if it did for any of the records deleted together. What somebody
achieves who saw no model, kappa, is known for ``top1`` and estimated from public records for the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from palimpsest.defenses.bound import group_blow_up
from palimpsest.server.session import Processed
from palimpsest.simulator.world.privacy.account import Account, Spending
from palimpsest.simulator.world.records import Array

THRESHOLDS = {"cosine": 0.9, "cosine_centred": 0.5}
"""Columns of scores and from where on an answer counts as the record: very alike, and clearly more than the mean."""

_ERROR = 0.05
_SHIFTS = 4
_LARGEST = 1000
_FEWEST = 20

Group: TypeAlias = Sequence[Spending]
"""What each unit that one deletion concerns has spent."""


def spans_of(account: Account, processed: Sequence[Processed], solved: bool) -> dict[str, list[Group] | None]:
    """What the units of each deletion have spent: on all that was broadcast, and on the two models around it alone.

    A deleted unit is in no release after its deletion. Where models are solved for (``solved``), each with noise of its
    own, the model before it has read the unit once; where they are trained, all that was spent went into it.
    """
    if account.unit is None:
        return {"pair": None, "sequence": None}
    sequence: list[Group] = [
        [
            account.spent(p.case.branch, client, record)
            for client, records in p.case.request.forget.items()
            for record in (records if account.unit == "record" else records[:1])
        ]
        for p in processed
    ]
    once: list[Group] = [[dict.fromkeys(spending, 1) for spending in group] for group in sequence]
    return {"pair": once if solved else sequence, "sequence": sequence}


@dataclass(frozen=True)
class Share:
    """A share of independent trials, with its Clopper-Pearson interval."""

    found: float
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, trials: int, error: float) -> "Share":
        """Estimate it; the interval misses the truth with probability ``error`` at most."""
        low = betaincinv(successes, trials - successes + 1, error / 2.0) if successes else 0.0
        high = betaincinv(successes + 1, trials - successes, 1.0 - error / 2.0) if successes < trials else 1.0
        return cls(successes / trials, float(low), float(high))


def bounds(
    scores: Mapping[str, pd.DataFrame],
    spans: Mapping[str, Sequence[Group] | None],
    public_x: Array,
    mean: Array,
    comparisons: int,
    rng: np.random.Generator,
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
    """
    error = _ERROR / comparisons
    priors = {
        f"{column}>={threshold:g}": share
        for column, threshold in THRESHOLDS.items()
        if (share := prior(public_x - (mean if column == "cosine_centred" else 0.0), threshold, error, rng)) is not None
    }
    return [
        row
        for attack, frame in scores.items()
        if "cosine_centred" in frame
        for row in _bounds_of(attack, frame, spans, priors, error)
    ]


def _bounds_of(
    attack: str,
    frame: pd.DataFrame,
    spans: Mapping[str, Sequence[Group] | None],
    priors: Mapping[str, Share],
    error: float,
) -> Iterator[dict[str, Any]]:
    """The rows of one attack."""
    sizes = frame.groupby("case").size().to_numpy()
    for event, happened in _events(frame).items():
        share = priors.get(event) if event != "top1" else _chance(frame)
        if share is None:
            continue
        success = Share.of(int(happened.sum()), len(happened), error)
        for span, groups in spans.items():
            yield {
                "event": event,
                "attack": attack,
                "span": span,
                "n": len(happened),
                "kappa": _together(share.found, sizes),
                "gamma": _gamma(share.high, sizes, groups),
                "success": success.found,
                "interval": [success.low, success.high],
            }


def prior(points: Array, threshold: float, error: float, rng: np.random.Generator) -> Share | None:
    """How often the best constant guess has at least this cosine with a record; None where records are too few.

    The guess is looked for on one half of the records (from each of them, moving to the mean direction of all within
    reach), and judged on the other half.
    """
    norms = np.linalg.norm(points, axis=1)
    units = (points[norms > 0] / norms[norms > 0, None])[rng.permutation(int((norms > 0).sum()))[:_LARGEST]]
    fitted, held = units[::2], units[1::2]
    if len(held) < _FEWEST:
        return None
    moved = [fitted]
    for _ in range(_SHIFTS):
        pulled = (moved[-1] @ fitted.T >= threshold) @ fitted
        moved.append(pulled / np.maximum(np.linalg.norm(pulled, axis=1, keepdims=True), 1e-300))
    guesses = np.concatenate(moved)
    best = guesses[np.argmax((guesses @ fitted.T >= threshold).sum(axis=1))]
    return Share.of(int((held @ best >= threshold).sum()), len(held), error)


def _events(frame: pd.DataFrame) -> dict[str, Array]:
    """Event -> ``[cases]`` whether it happened for any record of the case."""
    rows = {f"{column}>={threshold:g}": frame[column] >= threshold for column, threshold in THRESHOLDS.items()}
    if "rank" in frame and int(frame["candidates"].iloc[0]) > 1:
        rows = {"top1": frame["rank"] == 1, **rows}
    return {event: happened.groupby(frame["case"]).any().to_numpy() for event, happened in rows.items()}


def _chance(frame: pd.DataFrame) -> Share:
    """The true record stands among candidates of its own distribution, and an answer without sight of it ranks any of
    them first with the same probability."""
    chance = 1.0 / int(frame["candidates"].iloc[0])
    return Share(chance, chance, chance)


def _per_case(kappa: float, sizes: Array) -> Array:
    """Of one guess for one record -> of k guesses, the best of which is taken for each of k records."""
    several: Array = np.minimum(1.0, kappa * np.asarray(sizes, dtype=np.float64) ** 2)
    return several


def _together(kappa: float, sizes: Array) -> float:
    return float(_per_case(kappa, sizes).mean())


def _gamma(kappa: float, sizes: Array, groups: Sequence[Group] | None) -> float:
    if groups is None:
        return 1.0
    pairs = zip(_per_case(kappa, sizes), groups, strict=True)
    return float(np.mean([group_blow_up(group, one) for one, group in pairs]))
