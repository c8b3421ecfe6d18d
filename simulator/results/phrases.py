"""The evidence of one attack in words: what it got back, from which numbers, and how many deletions would settle it."""

from palimpsest.simulator.results.attack_results import ReconstructionResult
from palimpsest.simulator.results.evidence import (
    BACK,
    FLOORS,
    MOST,
    Evidence,
    Floors,
    chance_of,
    class_chance,
    interval_of,
    names_classes,
    picked_interval,
)
from palimpsest.simulator.results.intervals import FEWEST


def reasons(name: str, attack: ReconstructionResult, floors: Floors, shown: Evidence) -> str:
    """Why it cannot be told what an attack got back, and what would settle it."""
    few = f"too few deletions to tell ({attack.cases})"
    if shown.compared == "record":
        few = f"too little to tell ({counted(attack.n, 'record')} of {counted(attack.cases, 'deletion')})"
    some = "at least" if attack.cases < FEWEST else "about"
    wanted = f"{some} {shown.needed} deletions, of this seed or of several, would settle it"
    return f"{few}: {name} has {_numbers(attack, floors)}; {wanted}"


def told(name: str, attack: ReconstructionResult, floors: Floors, shown: Evidence, noun: str) -> str:
    """What an attack got back, or that it got nothing.

    Args:
        name: of the attack.
        attack: its figures.
        floors: those of answers that read no model.
        shown: what the figures show.
        noun: what was deleted.
    """
    if shown.grade == "nothing":
        floor = FLOORS[highest(floors) or "average"]
        has = f"{name} has {_medians(attack, floors)}{_tail(attack, floors)}"
        return f"nothing beyond {floor}: {has}{_among(attack, shown)}"
    if shown.grade == "back":
        back = f"{name} gives {noun} back: {_medians(attack, floors)}"
        return f"{back}{_quiet(attack)}{_among(attack, shown)}"
    if shown.by == "cosine":
        part = f"{_numbers(attack, floors)}{_short_of_all(attack)}"
    elif shown.by == "top1":
        part = f"{_picked(attack)}, with a {_medians(attack, floors)}"
    else:
        part = f"{_classes(attack, floors)}; {_numbers(attack, floors)}"
    return f"{name} gets part of {noun}: {part}{_quiet(attack)}{_among(attack, shown)}"


def counted(number: int, noun: str) -> str:
    """``1 deletion``, ``2 deletions``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def highest(floors: Floors) -> str | None:
    """The floor with the highest median cosine; None without any."""
    return max(floors, key=lambda floor: floors[floor].cosine_median, default=None)


def _medians(attack: ReconstructionResult, floors: Floors) -> str:
    floor = highest(floors)
    against = "" if floor is None else f" against {floors[floor].cosine_median:.2f} for {FLOORS[floor]}"
    return f"median cosine {attack.cosine_median:.2f}{against}"


def _numbers(attack: ReconstructionResult, floors: Floors) -> str:
    """Medians, with the interval of what is more for the same record, or of the median where that is not known."""
    floor = highest(floors)
    gain = None if floor is None else attack.gain_over.get(floor)
    if gain is not None and gain.cosine_ci95 is not None:
        low, high = gain.cosine_ci95
        more = f"{gain.cosine:+.2f} for the same record, 95 % interval {low:+.2f} to {high:+.2f}"
        return f"{_medians(attack, floors)} ({more})"
    interval = interval_of(attack)
    if interval is None:
        return _medians(attack, floors)
    level = f"median cosine {attack.cosine_median:.2f}"
    return (
        f"{level} (95 % interval {interval[0]:.2f} to {interval[1]:.2f}){_medians(attack, floors).removeprefix(level)}"
    )


def _picked(attack: ReconstructionResult) -> str:
    low, high = picked_interval(attack)
    share, chance = attack.top1_of_1000 or 0.0, chance_of(attack)
    return (
        f"it picks {percent(share)} of records out of {attack.candidates or 1:,} (95 % interval {percent(low)} to "
        f"{percent(high)}, chance {percent(chance)})"
    )


def _classes(attack: ReconstructionResult, floors: Floors) -> str:
    share, chance = attack.label_accuracy or 0.0, class_chance(attack, floors) or 0.0
    return f"the class is right for {percent(share)} of records (a guess: {percent(chance)})"


def _short_of_all(attack: ReconstructionResult) -> str:
    """Why records whose medians look as if they were back are not all back."""
    if attack.cosine_median < BACK[0] or attack.cosine_centred_median < BACK[1]:
        return ""
    if attack.cosine_centred_p10 < MOST:
        return f", yet for one in ten the centred cosine is at most {attack.cosine_centred_p10:.2f}"
    if attack.top1_of_1000 is not None and attack.top1_of_1000 < MOST:
        return f", yet only {percent(attack.top1_of_1000)} can be picked out of {attack.candidates or 1:,}"
    return f", yet the class is right for only {percent(attack.label_accuracy or 0.0)}"


def _tail(attack: ReconstructionResult, floors: Floors) -> str:
    """Where the median hides it: the best tenth came back, or the class did."""
    high = attack.cosine_p90 >= BACK[0] and attack.cosine_centred_p90 >= BACK[1]
    best = f", yet one in ten reaches {attack.cosine_p90:.2f}" if high else ""
    return best + (f", yet {_classes(attack, floors)}" if names_classes(attack, floors) else "")


def _quiet(attack: ReconstructionResult) -> str:
    """How many records had their deletion change nothing."""
    return f", {attack.no_signal} of {attack.n} without a signal" if attack.no_signal else ""


def _among(attack: ReconstructionResult, shown: Evidence) -> str:
    """Where deletions are too few for an interval of a median: what was looked at, and how many would tell more."""
    if attack.cases >= FEWEST:
        return ""
    if shown.compared == "deletion":
        return f" ({counted(attack.cases, 'deletion')}; {FEWEST} deletions or seeds would tell how much)"
    said = f"{counted(attack.n, 'record')} of {counted(attack.cases, 'deletion')}"
    return f" (among {said}; {FEWEST} deletions or seeds would tell of others)"


def percent(share: float) -> str:
    """A share, with a digit behind the point where it is small."""
    return f"{100 * share:.1f} %" if 0.0 < share < 0.01 else f"{100 * share:.0f} %"
