"""How much an attack got back: what its figures show beyond answers that read no model. From ``results.json`` alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal, TypeAlias

from palimpsest.simulator.results.attack_results import Gain, ReconstructionResult
from palimpsest.simulator.results.entry import Interval
from palimpsest.simulator.results.intervals import FEWEST, share_interval

Grade: TypeAlias = Literal["back", "part", "nothing", "silent", "unclear"]
Floors: TypeAlias = Mapping[str, ReconstructionResult]

FLOORS = {"average": "the public mean", "public-draw": "random public records"}
"""Answers that read no model: what an attack must beat to have seen anything."""
BACK = (0.9, 0.8)
"""Median cosine, raw and centred, from which one sees the record itself."""
MOST = 0.5
"""Least tenth percentile of the centred cosine, and least shares of records picked out and of right classes, where the
records are said to be back, and not some of them."""
_MARGIN = 0.1
"""A centred cosine below this is no reconstruction, however certain it is that it is not 0."""
_PROMISING = 0.3
"""A median centred cosine from which an interval that reaches down to the public mean leaves the question open."""
_SHARE_MARGIN = 0.05
"""Records picked out, or classes named, more often than by chance count from so many more."""


@dataclass(frozen=True)
class Evidence:
    """What an attack's figures say.

    Attributes:
        grade: how much it got back.
        by: the measure that shows it.
        compared: what was compared: deletions, or records of too few of them.
        needed: about how many deletions would settle what is unclear.
    """

    grade: Grade
    by: Literal["cosine", "top1", "label"] = "cosine"
    compared: Literal["deletion", "record"] = "deletion"
    needed: int = FEWEST


@dataclass(frozen=True)
class _Span:
    """By how much a figure lies above what it must exceed; ``low`` is None where there is no interval."""

    middle: float
    low: float | None


def evidence(attack: ReconstructionResult, floors: Floors) -> Evidence:
    """Weigh the figures of one arm.

    An attack has seen something only if it is closer to the same record than every floor is, raw and centred, by 95 %
    intervals over deletions, and its centred cosine exceeds 0 (what the public mean scores by definition) by a margin.
    Where cosines do not show it, records picked out of candidates may. Where medians alone would be worth reporting,
    right classes may, or else the deletions were too few to tell. Intervals are over the records of too few deletions
    where there are enough of these: the finding is one of these deletions then.
    """
    if attack.n > 0 and attack.no_signal == attack.n:
        return Evidence("silent")
    spans, compared = _spans(attack, floors), compared_of(attack)
    if all(span.low is not None and span.low > 0.0 for span in spans):
        return Evidence("back" if whole(attack) else "part", "cosine", compared)
    if _picked(attack):
        return Evidence("part", "top1", compared)
    known = all(span.low is not None for span in spans)
    promising = all(span.middle > 0.0 for span in spans) and attack.cosine_centred_median > _PROMISING
    if known and not promising:
        return Evidence("nothing", "cosine", compared)
    if names_classes(attack, floors):
        return Evidence("part", "label", compared)
    return Evidence("unclear", "cosine", compared, _needed(spans, attack.cases, compared))


def together(attacks: Sequence[ReconstructionResult], floors: Sequence[Floors]) -> Evidence:
    """Weigh the figures of several seeds, which are clusters: what all show is shown, else means over seeds decide.

    Args:
        attacks: the same attack's figures, one a seed.
        floors: of each seed.
    """
    alone = [evidence(attack, floor) for attack, floor in zip(attacks, floors, strict=True)]
    if len(alone) == 1:
        return alone[0]
    if len({single.grade for single in alone}) == 1 and alone[0].grade != "unclear":
        return next((single for single in alone if single.compared == "record"), alone[0])
    spans = list(zip(*(_spans(a, floor) for a, floor in zip(attacks, floors, strict=True)), strict=True))
    pooled = [_over_seeds([span.middle for span in single]) for single in spans]
    if all(span.low is not None and span.low > 0.0 for span in pooled):
        return Evidence("back" if all(map(whole, attacks)) else "part")
    if all(single.grade in ("part", "back") for single in alone):
        return Evidence("part", alone[0].by, "record" if any(o.compared == "record" for o in alone) else "deletion")
    deletions = sum(attack.cases for attack in attacks)
    if deletions >= FEWEST and all(single.grade in ("nothing", "silent") for single in alone):
        return Evidence("nothing")
    centred = fmean(attack.cosine_centred_median for attack in attacks)
    promising = all(span.middle > 0.0 for span in pooled) and centred > _PROMISING
    if deletions >= FEWEST and not promising and not any(single.grade in ("part", "back") for single in alone):
        return Evidence("nothing")
    return Evidence("unclear", needed=_needed(pooled, deletions, "deletion"))


def whole(attack: ReconstructionResult) -> bool:
    """Whether it is the records themselves that came back: nearly all of them, the right ones, with the right class."""
    shares = (attack.top1_of_1000, attack.label_accuracy)
    alike = attack.cosine_median >= BACK[0] and attack.cosine_centred_median >= BACK[1]
    return alike and attack.cosine_centred_p10 >= MOST and all(share is None or share >= MOST for share in shares)


def compared_of(attack: ReconstructionResult) -> Literal["deletion", "record"]:
    """What can be compared: deletions, or where these are too few the records, if there are enough of them."""
    return "record" if attack.cases < FEWEST <= attack.n and attack.n > attack.cases else "deletion"


def chance_of(attack: ReconstructionResult) -> float:
    """At most how often an answer without sight of the records picks one out, by any of the answers given together."""
    together_deleted = attack.n / max(1, attack.cases)
    return min(1.0, together_deleted / (attack.candidates or 1))


def picked_interval(attack: ReconstructionResult) -> Interval:
    """95 % of how often records are picked out of the candidates."""
    return share_interval(attack.top1_of_1000 or 0.0, _trials(attack))


def class_chance(attack: ReconstructionResult, floors: Floors) -> float | None:
    """How often a guess has the right class; None where that is not known, or where there are no classes."""
    if attack.label_prior is None:
        return None
    return max([attack.label_prior, *(f.label_accuracy for f in floors.values() if f.label_accuracy is not None)])


def names_classes(attack: ReconstructionResult, floors: Floors) -> bool:
    """Whether its classes are right more often than by chance."""
    chance = class_chance(attack, floors)
    if chance is None or attack.label_accuracy is None:
        return False
    return share_interval(attack.label_accuracy, _trials(attack))[0] > chance + _SHARE_MARGIN


def _picked(attack: ReconstructionResult) -> bool:
    if attack.top1_of_1000 is None or not attack.candidates:
        return False
    return picked_interval(attack)[0] > chance_of(attack) + _SHARE_MARGIN


def _trials(attack: ReconstructionResult) -> int:
    return max(1, attack.n if compared_of(attack) == "record" else attack.cases)


def _spans(attack: ReconstructionResult, floors: Floors) -> list[_Span]:
    """What must lie above 0: the centred cosine less a margin, and both cosines less those of each floor."""
    centred = centred_interval_of(attack)
    spans = [_Span(attack.cosine_centred_median - _MARGIN, None if centred is None else centred[0] - _MARGIN)]
    for name, floor in floors.items():
        gain = attack.gain_over.get(name) or _unpaired(attack, floor)
        spans.append(_Span(gain.cosine, gain.cosine_ci95 and gain.cosine_ci95[0]))
        spans.append(_Span(gain.cosine_centred, gain.cosine_centred_ci95 and gain.cosine_centred_ci95[0]))
    return spans


def _kept(attack: ReconstructionResult, interval: Interval | None) -> Interval | None:
    """An interval that is one: older runs gave it for any number of deletions."""
    return interval if attack.resampled is not None or attack.cases >= FEWEST else None


def interval_of(attack: ReconstructionResult) -> Interval | None:
    """95 % of the median cosine; None where it is no interval."""
    return _kept(attack, attack.cosine_ci95)


def centred_interval_of(attack: ReconstructionResult) -> Interval | None:
    """95 % of the median centred cosine; None where it is no interval."""
    return _kept(attack, attack.cosine_centred_ci95)


def _unpaired(attack: ReconstructionResult, floor: ReconstructionResult) -> Gain:
    """What can be said of older runs, which did not compare records in pairs: gains over the floor's upper end."""

    def apart(interval: Interval | None, other: Interval | None) -> Interval | None:
        return (interval[0] - other[1], interval[1] - other[0]) if interval is not None and other is not None else None

    raw, centred = floor.cosine_ci95, floor.cosine_centred_ci95
    return Gain(
        cosine=attack.cosine_median - (floor.cosine_median if raw is None else raw[1]),
        cosine_ci95=apart(_kept(attack, attack.cosine_ci95), _kept(floor, floor.cosine_ci95)),
        cosine_centred=attack.cosine_centred_median - (floor.cosine_centred_median if centred is None else centred[1]),
        cosine_centred_ci95=apart(_kept(attack, attack.cosine_centred_ci95), _kept(floor, floor.cosine_centred_ci95)),
    )


def _over_seeds(values: Sequence[float]) -> _Span:
    """Student's interval of the mean over two seeds or more."""
    from scipy.special import stdtrit  # takes a while to import, and one seed does not need it

    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return _Span(fmean(values), fmean(values) - half)


def _needed(spans: Sequence[_Span], cases: int, compared: str) -> int:
    """So many deletions, to two digits, that intervals that narrow with their root no longer reach down to 0."""
    if compared == "record":
        return FEWEST
    open_ = [s for s in spans if s.low is not None and s.low <= 0.0 < s.middle]
    ratio = max(((span.middle - (span.low or 0.0)) / span.middle for span in open_), default=1.0)
    wanted = max(FEWEST, cases + 1, math.ceil(cases * ratio**2))
    step: int = 10 ** max(0, len(str(wanted)) - 2)
    return -(-wanted // step) * step
