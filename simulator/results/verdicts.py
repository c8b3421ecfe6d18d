"""What a run found, in words: from ``results.json`` alone, and importing nothing heavy."""

from collections.abc import Mapping, Sequence
from typing import Any

from palimpsest.simulator.results.attack_results import ReconstructionResult
from palimpsest.simulator.results.chain_verdicts import (
    epsilon_clause,
    inference_clauses,
    reconstruction_clause,
    utility_clause,
)
from palimpsest.simulator.results.chains import chain_of
from palimpsest.simulator.results.evidence import FLOORS, Evidence, Grade, together
from palimpsest.simulator.results.inference_verdicts import inferences, inferred
from palimpsest.simulator.results.intervals import FEWEST
from palimpsest.simulator.results.phrases import counted, reasons, told
from palimpsest.simulator.results.schema import ArmResult, Defense, Method

BASELINES = ("average", "public-draw", "max-difference", "raw-difference", "updates-leak")
_TOLD: tuple[Grade, ...] = ("back", "part", "nothing", "silent")
_RANK: dict[Grade, int] = {"back": 4, "part": 3, "unclear": 2, "nothing": 1, "silent": 0}


def leading(arm: ArmResult) -> tuple[str, Grade] | None:
    """The attack that got most back, and how much; None where no reconstruction was tried.

    Where several gave the record back, one that is no baseline; then the one with the higher centred median.
    """
    leader = _leading([arm])
    return None if leader is None else (leader[0], leader[1].grade)


def _leading(arms: Sequence[ArmResult]) -> tuple[str, Evidence] | None:
    """The attack that got most back over the seeds of a setting; only those that every seed has are compared."""
    tried = [reconstructions(arm) for arm in arms]
    names = [name for name in tried[0] if name not in FLOORS and all(name in other for other in tried)]
    floors = [_floors(arm) for arm in arms]
    evidence_of = {name: together([results_of[name] for results_of in tried], floors) for name in names}
    if not evidence_of:
        return None

    def rank(name: str) -> tuple[int, bool, float]:
        grade = evidence_of[name].grade
        first = grade in ("back", "silent") and name not in BASELINES
        return _RANK[grade], first, sum(results_of[name].cosine_centred_median for results_of in tried)

    best = max(evidence_of, key=rank)
    return best, evidence_of[best]


def _floors(arm: ArmResult) -> dict[str, ReconstructionResult]:
    return {name: attack for name, attack in reconstructions(arm).items() if name in FLOORS}


def reconstructions(arm: ArmResult) -> dict[str, ReconstructionResult]:
    """The attacks of an arm that answer with records; attacks before baselines, the public mean last.

    Random public records are left out where single records were deleted: they say nothing that the mean does not.
    Where baselines are alone beside attacks of other kinds, none: there is nothing for them to be seen beside.
    """
    records = {name: attack for name, attack in arm.attacks.items() if isinstance(attack, ReconstructionResult)}
    if inferences(arm) and set(records) <= set(BASELINES):
        return {}
    if arm.deletion.records == 1:
        records.pop("public-draw", None)
    return dict(sorted(records.items(), key=lambda item: (item[0] in BASELINES, item[0] == "average")))


def judged(entry: Mapping[str, Any]) -> ArmResult:
    """The result of an arm whose entry has no verdict yet, or an older one: with its verdict.

    Raises:
        ValidationError: the entry is none.
    """
    unjudged = ArmResult.model_validate({**entry, "verdict": ""})
    return unjudged.model_copy(update={"verdict": verdict(unjudged)})


def verdict(arm: ArmResult) -> str:
    """One sentence: what was got back, against the public mean, at what utility; of a chain what it came to."""
    if arm.diverged:
        return f"no scores, as {arm.diverged}."
    led = _leading([arm])
    if chain_of(arm):
        return _of_chain(arm, led)
    if led is None:
        return _sentence("" if inferences(arm) else "no reconstruction was tried", arm)
    name, shown = led
    attack, floors, noun = reconstructions(arm)[name], _floors(arm), _deleted(arm)
    if shown.grade == "silent":
        return _sentence("nothing to read: the released model did not change", arm)
    if shown.grade == "unclear":
        return _sentence(reasons(name, attack, floors, shown), arm)
    return _sentence(told(name, attack, floors, shown, noun), arm)


def _of_chain(arm: ArmResult, led: tuple[str, Evidence] | None) -> str:
    """What a chain of requests came to; see ``chain_verdicts``."""
    back = "" if led is None else reconstruction_clause(arm, *led, _deleted(arm))
    nobody = "nobody's data are left" if chain_of(arm)[-1].records_left == 0 else ""
    parts = (utility_clause(arm), nobody, back, *inference_clauses(arm))
    ends = (epsilon_clause(arm), _refused(arm), _failed(arm))
    return "; ".join(part for part in (*parts, *ends) if part) + "."


def finding(settings: Sequence[tuple[str, Sequence[ArmResult]]], brief: bool = False) -> str:
    """The title of a figure: after which ways of unlearning the records come back, and after which they do not.

    Args:
        settings: phrases such as ``gradient ascent``, each with its arms (one a seed), which are weighed together.
        brief: whether several ways are counted instead of named, and less is said of what is unclear.
    """
    groups: dict[Grade, list[str]] = {}
    for phrase, arms in settings:
        if (led := _leading(arms)) is not None:
            groups.setdefault(led[1].grade, []).append(phrase + _few(*led, arms))
    if not groups:
        return "No reconstruction was tried"
    noun = _deleted(settings[0][1][0])
    verb = "come" if noun.endswith("s") else "comes"
    how: dict[Grade, str] = {"back": "", "part": "in part ", "silent": "not at all "}
    how = {**how, "nothing": f"no better than {_floor(settings)} "}
    ways = {key: _counted(one, len(settings)) if brief else _listed(one) for key, one in groups.items()}
    said = [f"{how[key]}after {ways[key]}" for key in _TOLD if key in groups]
    title = f"{noun[:1].upper()}{noun[1:]} {verb} back {'; '.join(said)}"
    if "unclear" not in groups:
        return title
    unclear = ways["unclear"]
    if not said:
        return f"Too few deletions or seeds to tell whether {noun} {verb} back after {unclear}"
    return f"{title}; too few {'' if brief else 'deletions or seeds '}to tell after {unclear}"


def _counted(phrases: Sequence[str], ways: int) -> str:
    """One phrase, or how many there are of so many."""
    if len(phrases) == 1:
        return phrases[0]
    return f"{f'all {ways}' if len(phrases) == ways else f'{len(phrases)} of {ways}'} ways of unlearning"


def _few(name: str, shown: Evidence, arms: Sequence[ArmResult]) -> str:
    """That what is said of a setting rests on few deletions, or on their records alone."""
    count = sum(arm.attacks[name].cases for arm in arms)
    if shown.grade in ("silent", "unclear") or (shown.compared == "deletion" and count >= FEWEST):
        return ""
    return f" ({counted(count, 'deletion')})"


def _floor(settings: Sequence[tuple[str, Sequence[ArmResult]]]) -> str:
    """What nothing was better than, in words."""
    names = dict.fromkeys(name for _, arms in settings for arm in arms for name in _floors(arm))
    return " or ".join(FLOORS[name] for name in FLOORS if name in names) or FLOORS["average"]


def headline(arms: Sequence[ArmResult], brief: bool = False, labels: bool = False) -> str:
    """The finding of a whole run; variants are named only where they turned out differently. See ``finding``.

    Args:
        arms: of the run.
        brief: whether several ways are counted instead of named.
        labels: whether ways are named by their labels instead of in words.
    """
    words = label_of if labels else phrase_of
    scored = [arm for arm in arms if not arm.diverged]
    if len(scored) < len(arms):
        count = len(arms) - len(scored)
        lost = f"{count} of {counted(len(arms), 'arm')} {'have' if count > 1 else 'has'} no scores"
        return f"{headline(scored, brief, labels)}; {lost}" if scored else lost
    groups: dict[str, list[ArmResult]] = {}
    for arm in arms:
        groups.setdefault(words(arm, arms), []).append(arm)
    grouped: list[tuple[str, list[ArmResult]]] = []
    for phrase, members in groups.items():
        variants = list(dict.fromkeys(arm.variant for arm in members))
        of_variants = {name: [arm for arm in members if arm.variant == name] for name in variants}
        shown = {name: led[1] for name, some in of_variants.items() if (led := _leading(some)) is not None}
        if len({(evidence.grade, evidence.compared) for evidence in shown.values()}) > 1:
            grouped += [(f"{phrase} ({name})", some) for name, some in of_variants.items()]
        else:
            grouped.append((phrase, of_variants[next(iter(shown), variants[0])]))
    return finding(grouped, brief)


def phrase_of(arm: ArmResult, arms: Sequence[ArmResult]) -> str:
    """How the data were unlearned and defended, in words that follow ``after``."""
    rule = arm.unlearning
    words: str = {
        "retrain": {
            "same-order": "retraining with the same batch order",
            "same-coins": "retraining with the same coins",
            "same-noise": "retraining with the same coins and noise",
            "reshuffled": "retraining with reshuffled batches",
            "independent": "retraining with fresh randomness",
        }.get(rule.coupling, "retraining"),
        "downdate": "downdating",
        "ascent": "gradient ascent",
        "none": "ignoring the request",
    }.get(rule.method, rule.method)
    return _joined(words + _details(rule, arms), defense_of(arm, arms))


def label_of(arm: ArmResult, arms: Sequence[ArmResult]) -> str:
    """The same, short: for axes and tables. Equal for arms that differ by variant or seed only."""
    return _joined(unlearning_of(arm, arms), defense_of(arm, arms))


def unlearning_of(arm: ArmResult, arms: Sequence[ArmResult]) -> str:
    """The part of the label that names the way of unlearning."""
    rule = arm.unlearning
    words: str = {
        "retrain": f"retrain, {rule.coupling}".replace("-", " ").rstrip(", "),
        "none": "no unlearning",
    }.get(rule.method, rule.method)
    return words + _details(rule, arms)


def defense_of(arm: ArmResult, arms: Sequence[ArmResult]) -> str:
    """The part of the label that names the defense; empty without one."""
    if arm.defense.kind == "none":
        return ""
    same = [other.defense for other in arms if other.defense.kind == arm.defense.kind]
    inner = _varying(arm.defense, same)
    return arm.defense.kind + (f" ({inner})" if inner else "")


def _joined(unlearning: str, defense: str) -> str:
    return f"{unlearning} under {defense}" if defense else unlearning


def _details(rule: Method, arms: Sequence[ArmResult]) -> str:
    """The fields that tell a way of unlearning from others of the same method."""
    inner = _varying(rule, [other.unlearning for other in arms if other.unlearning.method == rule.method])
    return f" ({inner})" if inner else ""


def _varying(entry: Method | Defense, same: Sequence[Method | Defense]) -> str:
    """``field value`` of every field in which the entry differs from some other; couplings are named elsewhere."""
    fields, others = entry.to_json(), [other.to_json() for other in same]
    names = [name for name in fields if name != "coupling" and any(o.get(name) != fields[name] for o in others)]
    return ", ".join(f"{name.replace('_', ' ')} {number(fields[name])}" for name in names)


def _deleted(arm: ArmResult) -> str:
    """What was deleted, as a noun."""
    if arm.deletion.level == "client":
        return "the client's records"
    if arm.deletion.level == "label":
        return "the deleted class's records"
    return "the deleted records" if arm.deletion.records > 1 else "the deleted record"


def _sentence(claim: str, arm: ArmResult) -> str:
    """Add what else was inferred, the utility, epsilon where privacy was asked for, refusals and failures."""
    parts = (claim, *inferred(arm.attacks), _utility(arm), _epsilon(arm), _refused(arm), _failed(arm))
    return "; ".join(part for part in parts if part) + "."


def _refused(arm: ArmResult) -> str:
    refused = arm.requests_made - arm.requests_completed
    return f"{refused} of {arm.requests_made} requests refused, see the ledger" if refused else ""


def _failed(arm: ArmResult) -> str:
    return f"{_listed(list(arm.failed_attacks))} failed and gave no answer" if arm.failed_attacks else ""


def _utility(arm: ArmResult) -> str:
    """Utility before and after, with retraining's where it differs by a hundredth."""
    utility = arm.utility
    if utility is None or utility.unlearned is None:
        return ""
    text = f"{utility.unit} {utility.trained:.2f} -> {utility.unlearned:.2f}"
    apart = utility.retrained is not None and abs(utility.retrained - utility.unlearned) >= 0.01
    return f"{text} (retrained {utility.retrained:.2f})" if apart else text


def _epsilon(arm: ArmResult) -> str:
    return "" if arm.privacy.epsilon_max is None else f"epsilon {number(arm.privacy.epsilon_max)}"


def _listed(phrases: Sequence[str]) -> str:
    """``a, b and c``."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def number(value: Any) -> str:
    """A hyper-parameter's value, short."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
