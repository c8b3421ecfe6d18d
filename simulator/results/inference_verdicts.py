"""What attacks on classes and on given records found, in words: from ``results.json`` alone."""

from collections.abc import Iterable, Mapping

from palimpsest.simulator.results.attack_results import AttackResult, LabelsResult, MatchingResult, ScoresResult
from palimpsest.simulator.results.schema import ArmResult

_KINDS = ("labels", "matching", "scores")


def inferences(arm: ArmResult) -> dict[str, AttackResult]:
    """The attacks of an arm that answer with classes, or about given records, kind by kind."""
    found = {name: attack for name, attack in arm.attacks.items() if attack.kind in _KINDS}
    return dict(sorted(found.items(), key=lambda item: _KINDS.index(item[1].kind)))


def inferred(attacks: Mapping[str, AttackResult]) -> list[str]:
    """A clause for each kind of inference that was tried, by the attack that did best.

    Args:
        attacks: of one arm, by name.
    """
    labels = {name: attack for name, attack in attacks.items() if isinstance(attack, LabelsResult)}
    matching = {name: attack for name, attack in attacks.items() if isinstance(attack, MatchingResult)}
    scores = {name: attack for name, attack in attacks.items() if isinstance(attack, ScoresResult)}
    clauses = []
    if labels:
        clauses.append(_labels(labels))
    if matching:
        clauses.append(_matching(matching))
    if scores:
        clauses.append(_scores(scores))
    return clauses


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
    told = {name: (a.auc, a.auc_ci95) for name, a in tried.items() if a.auc is not None and a.auc_ci95 is not None}
    if not told:
        return f"{_listed(tried)} withheld: no power on the model before"
    best = max(told, key=lambda name: told[name][0])
    area, (low, high) = told[best]
    return f"{best} tells deleted records with an AUC of {area:.2f} ({low:.2f} to {high:.2f})"


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
