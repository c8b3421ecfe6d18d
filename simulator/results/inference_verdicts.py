"""What attacks on classes and on given records found, in words: from ``results.json`` alone."""

from collections.abc import Mapping, Sequence
from typing import Any

_KINDS = ("labels", "matching", "scores")


def inferences(arm: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The attacks of an arm that answer with classes, or about given records, kind by kind."""
    found = {name: attack for name, attack in arm.get("attacks", {}).items() if attack.get("kind") in _KINDS}
    return dict(sorted(found.items(), key=lambda item: _KINDS.index(item[1]["kind"])))


def inferred(arm: Mapping[str, Any]) -> list[str]:
    """A clause for each kind of inference that was tried, by the attack that did best."""
    words = {"labels": _labels, "matching": _matching, "scores": _scores}
    clauses = []
    for kind, say in words.items():
        tried = {name: attack for name, attack in inferences(arm).items() if attack["kind"] == kind}
        if tried:
            clauses.append(say(tried))
    return clauses


def _labels(tried: Mapping[str, Mapping[str, Any]]) -> str:
    best = max(tried, key=lambda name: (tried[name]["class_accuracy"], tried[name]["label_accuracy"]))
    attack = tried[best]
    if attack["no_signal"] == attack["cases"]:
        return "no deleted class can be told: the released model did not change"
    return (
        f"{best} names the class in {_percent(attack['class_accuracy'])} of {attack['cases']} deletions "
        f"(the commonest public class: {_percent(attack['label_accuracy_prior'])} of the records)"
    )


def _matching(tried: Mapping[str, Mapping[str, Any]]) -> str:
    best = max(tried, key=lambda name: (tried[name]["top1_of_1000"], -tried[name]["rank_median"]))
    attack = tried[best]
    return f"{best} picks the record out of {attack['candidates']:,} in {_percent(attack['top1_of_1000'])} of cases"


def _scores(tried: Mapping[str, Mapping[str, Any]]) -> str:
    shown = {name: attack for name, attack in tried.items() if "auc" in attack}
    if not shown:
        return f"{_listed(tried)} withheld: no power on the model before"
    best = max(shown, key=lambda name: shown[name]["auc"])
    low, high = shown[best]["auc_ci95"]
    return f"{best} tells deleted records with an AUC of {shown[best]['auc']:.2f} ({low:.2f} to {high:.2f})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return " and ".join(names)


def cost(attack: Mapping[str, Any]) -> str:
    """Seconds over all deletions, how far memory rose, and queries where the attack could only ask."""
    if "seconds" not in attack:
        return "-"
    asked = f", {_short(attack['queries'])} queries" if "queries" in attack else ""
    return f"{attack['seconds']:.1f} s, {attack['peak_memory_bytes'] / 1e6:.0f} MB{asked}"


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1_000_000 else f"{count / 1e3:.0f}k" if count >= 10_000 else str(count)
