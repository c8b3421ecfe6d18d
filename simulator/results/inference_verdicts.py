"""What attacks on classes and on given records found, in words and as rows: from ``results.json`` alone.

Figures of a kind of answer that another package measures carry what was said of them when they were scored.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from palimpsest.simulator.results.attack_results import (
    AttackResult,
    LabelsResult,
    MatchingResult,
    OtherResult,
    ProfileResult,
    ReconstructionResult,
    ScoresResult,
)
from palimpsest.simulator.results.intervals import FEWEST, share_interval
from palimpsest.simulator.results.schema import ArmResult

Figures: TypeAlias = Mapping[str, Any]
"""What another package measured of one attack, by name."""


_KINDS = ("labels", "matching", "scores", "profile")


@dataclass(frozen=True)
class Row:
    """One attack's success, as a row of a figure.

    Attributes:
        success: in [0, 1]; None where it is withheld.
        chance: what somebody has who saw no model.
        words: what is measured, short.
        interval: 95 % of the success.
        before: the same of the single model before the unlearning.
    """

    success: float | None
    chance: float
    words: str
    interval: tuple[float, float] | None = None
    before: float | None = None


@dataclass(frozen=True)
class Reading:
    """How another package reads the figures of its kind of answer.

    Attributes:
        clause: of the verdict, without a full stop, of the attack that did best of those tried, by their names.
        row: of one attack.
    """

    clause: Callable[[Mapping[str, Figures]], str]
    row: Callable[[Figures], Row]


def inferences(arm: ArmResult) -> dict[str, AttackResult]:
    """The attacks of an arm that answer with something else than records, kind by kind."""
    answered = {name: attack for name, attack in arm.attacks.items() if not isinstance(attack, ReconstructionResult)}
    return dict(sorted(answered.items(), key=lambda item: _place(item[1])))


def _place(attack: AttackResult) -> tuple[int, str]:
    """Kinds of other packages come last, by name."""
    return (_KINDS.index(attack.kind), "") if attack.kind in _KINDS else (len(_KINDS), attack.kind)


def inferred(attacks: Mapping[str, AttackResult]) -> list[str]:
    """A clause for each kind of inference that was tried, by the attack that did best.

    Args:
        attacks: of one arm, by name.
    """
    labels = {name: attack for name, attack in attacks.items() if isinstance(attack, LabelsResult)}
    matching = {name: attack for name, attack in attacks.items() if isinstance(attack, MatchingResult)}
    scores = {name: attack for name, attack in attacks.items() if isinstance(attack, ScoresResult)}
    profiles = {name: attack for name, attack in attacks.items() if isinstance(attack, ProfileResult)}
    others: dict[str, list[OtherResult]] = {}
    for attack in attacks.values():
        if isinstance(attack, OtherResult):
            others.setdefault(attack.kind, []).append(attack)
    clauses = [_labels(labels)] if labels else []
    clauses += [_matching(matching)] if matching else []
    clauses += [_scores(scores)] if scores else []
    clauses += [_profile(profiles)] if profiles else []
    return clauses + [_other(others[kind]) for kind in sorted(others)]


def row_of(attack: AttackResult) -> Row:
    """An attack that answers with something else than records, as a row.

    Raises:
        TypeError: it answers with records.
    """
    if isinstance(attack, LabelsResult):
        return Row(attack.class_accuracy, attack.label_accuracy_prior, "class", attack.class_accuracy_ci95)
    if isinstance(attack, MatchingResult):
        interval = share_interval(attack.top1_of_1000, attack.cases)
        return Row(attack.top1_of_1000, 1.0 / attack.candidates, f"first of {attack.candidates:,}", interval)
    if isinstance(attack, ScoresResult):
        return Row(attack.auc, 0.5, "AUC", attack.auc_ci95, attack.membership_auc_trained)
    if isinstance(attack, ProfileResult):
        low, high = attack.total_variation_ci95
        likeness = (1.0 - high, 1.0 - low) if attack.cases > 1 else None
        chance = 1.0 - attack.total_variation_prior_median
        return Row(1.0 - attack.total_variation_median, chance, "label histogram", likeness)
    if isinstance(attack, OtherResult):
        return Row(attack.success, attack.chance, attack.measured, attack.success_ci95, attack.success_before)
    raise TypeError(f"{attack.kind!r} answers are no inferences")


def kept(clause: str, row: Row, package: str) -> dict[str, Any]:
    """What ``results.json`` keeps of a reading that it has no part in.

    Args:
        clause: about one attack.
        row: of that attack.
        package: that measured it, with its version.
    """
    values = {"success": row.success, "success_ci95": row.interval and list(row.interval), "success_before": row.before}
    known = {key: value for key, value in values.items() if value is not None}
    return {**known, "chance": row.chance, "measured": row.words, "said": clause, "measured_by": package}


def _labels(tried: Mapping[str, LabelsResult]) -> str:
    best = max(tried, key=lambda name: (tried[name].class_accuracy, tried[name].label_accuracy))
    attack = tried[best]
    if attack.no_signal == attack.cases:
        return "no deleted class can be told: the released model did not change"
    return (
        f"{best} names the class in {_percent(attack.class_accuracy)} of {attack.cases} deletions "
        f"(the commonest public class: {_percent(attack.label_accuracy_prior)} of the records)"
    )


def _matching(tried: Mapping[str, MatchingResult]) -> str:
    best = max(tried, key=lambda name: (tried[name].top1_of_1000, -tried[name].rank_median))
    attack = tried[best]
    return f"{best} picks the record out of {attack.candidates:,} in {_percent(attack.top1_of_1000)} of cases"


def _scores(tried: Mapping[str, ScoresResult]) -> str:
    told = {name: (a.auc, a.auc_ci95) for name, a in tried.items() if a.auc is not None}
    if not told:
        return f"{_listed(tried)} withheld: no power on the model before"
    best = max(told, key=lambda name: told[name][0])
    area, interval = told[best]
    if interval is None or tried[best].cases < FEWEST > tried[best].n:
        return f"too few deletions to tell whether {best} tells deleted records: its AUC is {area:.2f}"
    said = f"AUC of {area:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
    if interval[0] <= 0.5:
        return f"{best} does not tell deleted records from others for certain: it has an {said}"
    return f"{best} tells deleted records with an {said}"


def _profile(tried: Mapping[str, ProfileResult]) -> str:
    best = min(tried, key=lambda name: tried[name].total_variation_median)
    attack = tried[best]
    if attack.no_signal == attack.cases:
        return "nothing of a leaver's profile can be told: the released model did not change"
    off, prior, (low, high) = (
        attack.total_variation_median, attack.total_variation_prior_median, attack.total_variation_ci95
    )  # fmt: skip
    interval = f"{low:.2f} to {high:.2f}; " if attack.cases > 1 else ""
    if high >= prior:
        return (
            f"{best} says no more of a leaver's label histogram than the public shares do ({off:.2f} off in total "
            f"variation, {interval}the public shares {prior:.2f})"
        )
    return (
        f"{best} tells a leaver's label histogram to within {off:.2f} in total variation ({interval}the public shares: "
        f"{prior:.2f}), and its intervals hold {_percent(attack.counts_covered)} of the counts"
    )


def _other(tried: Iterable[OtherResult]) -> str:
    best = max(tried, key=lambda attack: -1.0 if attack.success is None else attack.success)
    return f"{best.said} (as {best.measured_by} measures it)"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)


def cost(attack: AttackResult) -> str:
    """Seconds over all deletions, how far memory rose, and queries where the attack could only ask."""
    asked = "" if attack.queries is None else f", {_short(attack.queries)} queries"
    return f"{attack.seconds:.1f} s, {attack.peak_memory_bytes / 1e6:.0f} MB{asked}"


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1_000_000 else f"{count / 1e3:.0f}k" if count >= 10_000 else str(count)
