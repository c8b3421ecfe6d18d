"""What attacks on classes and on given records found, in words and as rows: from ``results.json`` alone.

Figures of a kind of answer that another package measures carry what was said of them when they were scored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Figures: TypeAlias = Mapping[str, Any]
"""One entry of an arm's ``attacks``."""


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
    """How the figures of one kind of answer are read.

    Attributes:
        clause: of the verdict, without a full stop, of the attack that did best of those tried, by their names.
        row: of one attack.
    """

    clause: Callable[[Mapping[str, Figures]], str]
    row: Callable[[Figures], Row]


def inferences(arm: Figures) -> dict[str, Figures]:
    """The attacks of an arm that answer with something else than records, kind by kind."""
    found = {name: attack for name, attack in arm.get("attacks", {}).items() if attack["kind"] != "reconstruction"}
    order = [*READINGS, *sorted({attack["kind"] for attack in found.values()} - set(READINGS))]
    return dict(sorted(found.items(), key=lambda item: order.index(item[1]["kind"])))


def inferred(arm: Figures) -> list[str]:
    """A clause for each kind of inference that was tried, by the attack that did best."""
    kinds: dict[str, dict[str, Figures]] = {}
    for name, attack in inferences(arm).items():
        kinds.setdefault(attack["kind"], {})[name] = attack
    return [READINGS.get(kind, KEPT).clause(tried) for kind, tried in kinds.items()]


def row_of(attack: Figures) -> Row:
    """An attack that answers with something else than records, as a row."""
    return READINGS.get(attack["kind"], KEPT).row(attack)


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


def _labels(tried: Mapping[str, Figures]) -> str:
    best = max(tried, key=lambda name: (tried[name]["class_accuracy"], tried[name]["label_accuracy"]))
    attack = tried[best]
    if attack["no_signal"] == attack["cases"]:
        return "no deleted class can be told: the released model did not change"
    return (
        f"{best} names the class in {_percent(attack['class_accuracy'])} of {attack['cases']} deletions "
        f"(the commonest public class: {_percent(attack['label_accuracy_prior'])} of the records)"
    )


def _matching(tried: Mapping[str, Figures]) -> str:
    best = max(tried, key=lambda name: (tried[name]["top1_of_1000"], -tried[name]["rank_median"]))
    attack = tried[best]
    return f"{best} picks the record out of {attack['candidates']:,} in {_percent(attack['top1_of_1000'])} of cases"


def _scores(tried: Mapping[str, Figures]) -> str:
    shown = {name: attack for name, attack in tried.items() if "auc" in attack}
    if not shown:
        return f"{_listed(tried)} withheld: no power on the model before"
    best = max(shown, key=lambda name: shown[name]["auc"])
    low, high = shown[best]["auc_ci95"]
    return f"{best} tells deleted records with an AUC of {shown[best]['auc']:.2f} ({low:.2f} to {high:.2f})"


def _profile(tried: Mapping[str, Figures]) -> str:
    best = min(tried, key=lambda name: tried[name]["total_variation_median"])
    attack = tried[best]
    if attack["no_signal"] == attack["cases"]:
        return "nothing of a leaver's profile can be told: the released model did not change"
    off, prior, (low, high) = (attack[f"total_variation_{key}"] for key in ("median", "prior_median", "ci95"))
    interval = f"{low:.2f} to {high:.2f}; " if attack["cases"] > 1 else ""
    if high >= prior:
        return (
            f"{best} says no more of a leaver's label histogram than the public shares do ({off:.2f} off in total "
            f"variation, {interval}the public shares {prior:.2f})"
        )
    return (
        f"{best} tells a leaver's label histogram to within {off:.2f} in total variation ({interval}the public shares: "
        f"{prior:.2f}), and its intervals hold {_percent(attack['counts_covered'])} of the counts"
    )


def _labels_row(attack: Figures) -> Row:
    return Row(
        attack["class_accuracy"], attack["label_accuracy_prior"], "class", attack.get("class_accuracy_ci95") or None
    )


def _matching_row(attack: Figures) -> Row:
    return Row(attack["top1_of_1000"], 1.0 / attack["candidates"], "first of 1,000")


def _scores_row(attack: Figures) -> Row:
    return Row(attack.get("auc"), 0.5, "AUC", attack.get("auc_ci95"), attack.get("membership_auc_trained"))


def _profile_row(attack: Figures) -> Row:
    low, high = attack["total_variation_ci95"]
    interval = (1.0 - high, 1.0 - low) if attack["cases"] > 1 else None
    chance = 1.0 - attack["total_variation_prior_median"]
    return Row(1.0 - attack["total_variation_median"], chance, "label histogram", interval)


def _kept_clause(tried: Mapping[str, Figures]) -> str:
    best = max(tried.values(), key=lambda attack: attack.get("success", -1.0))
    return f"{best['said']} (as {best['measured_by']} measures it)"


def _kept_row(attack: Figures) -> Row:
    interval = attack.get("success_ci95")
    return Row(attack.get("success"), attack["chance"], attack["measured"], interval, attack.get("success_before"))


READINGS: Mapping[str, Reading] = {
    "labels": Reading(_labels, _labels_row),
    "matching": Reading(_matching, _matching_row),
    "scores": Reading(_scores, _scores_row),
    "profile": Reading(_profile, _profile_row),
}
"""By ``kind``, in the order of the verdict."""
KEPT = Reading(_kept_clause, _kept_row)
"""Of the kinds of other packages."""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return " and ".join(names)


def cost(attack: Figures) -> str:
    """Seconds over all deletions, how far memory rose, and queries where the attack could only ask."""
    if "seconds" not in attack:
        return "-"
    asked = f", {_short(attack['queries'])} queries" if "queries" in attack else ""
    return f"{attack['seconds']:.1f} s, {attack['peak_memory_bytes'] / 1e6:.0f} MB{asked}"


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1_000_000 else f"{count / 1e3:.0f}k" if count >= 10_000 else str(count)
