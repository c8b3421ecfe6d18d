"""How often attacks succeeded, beside how often they can at most: ``privacy.bounds`` of ``results.json``.

An event is judged once a deletion: it happened if it did for any of the records deleted together. gamma is how probable
that event can be at most, over the draw of the deletion, training and attack; it bounds no median of a score.
What somebody achieves who saw no model, kappa, follows for ``top1`` from how deletions are drawn (``exact``). For the
other events it is that of the best guess that was found on public records (``estimate``): a better guess may exist, and
gamma is an estimate too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from palimpsest.defenses.bound import group_blow_up
from palimpsest.server.session import Processed
from palimpsest.simulator.attack_metrics.priors import THRESHOLDS, Prior, Share, priors
from palimpsest.simulator.planning.drawing import weighed_chance
from palimpsest.simulator.world.privacy.account import Account, Spending
from palimpsest.simulator.world.records import Array

_ERROR = 0.05

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
    reconstructions = {attack: frame for attack, frame in scores.items() if "cosine_centred" in frame}
    if not reconstructions:
        return []
    error = _ERROR / comparisons
    guessed = priors(public_x, mean, error, rng)
    return [
        row
        for attack, frame in reconstructions.items()
        for row in _bounds_of(attack, frame, spans, guessed | _chance(frame, strata), error)
    ]


def _bounds_of(
    attack: str,
    frame: pd.DataFrame,
    spans: Mapping[str, Sequence[Group] | None],
    known: Mapping[str, Prior],
    error: float,
) -> Iterator[dict[str, Any]]:
    """The rows of one attack."""
    sizes = frame.groupby("case").size().to_numpy()
    for event, happened in _events(frame).items():
        if event not in known:
            continue
        of_nobody = known[event]
        success, counted = Share.of(int(happened.sum()), len(happened), error), of_nobody.counted(sizes)
        for span, groups in spans.items():
            yield {
                "event": event,
                "attack": attack,
                "span": span,
                "n": len(happened),
                "kappa": float(_per_case(of_nobody.share.found, counted).mean()),
                "kappa_is": of_nobody.how,
                "gamma": _gamma(of_nobody.share.high, counted, groups),
                "success": success.found,
                "interval": [success.low, success.high],
            }


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
