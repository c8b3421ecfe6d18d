"""What a run found, in words: from ``results.json`` alone, and importing nothing heavy."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from palimpsest.simulator.results.attack_results import ReconstructionResult
from palimpsest.simulator.results.inference_verdicts import inferences, inferred
from palimpsest.simulator.results.schema import ArmResult, Defense, Method

Grade: TypeAlias = Literal["back", "part", "nothing", "silent", "unclear"]

BASELINES = ("average", "public-draw", "max-difference", "raw-difference", "updates-leak")
_FLOORS = {"average": "the public mean", "public-draw": "random public records"}
"""Answers that read no model: what an attack must beat to have seen anything."""
FEWEST = 6
"""Below so many deletions no interval for a median holds 95 % (smallest to largest of n covers 1 - 2^(1 - n))."""
_MARGIN = 0.1
"""A centred cosine below this is no reconstruction, however certain it is that it is not 0."""
_PROMISING = 0.3
"""A median centred cosine from which an interval that reaches down to the public mean leaves the question open."""
_BACK = (0.9, 0.8)
"""Median cosine, raw and centred, from which one sees the record itself."""
_RANK: dict[Grade, int] = {"back": 4, "part": 3, "unclear": 2, "nothing": 1, "silent": 0}


def grade(attack: ReconstructionResult, floors: Sequence[ReconstructionResult]) -> Grade:
    """Say how much an attack got back.

    It has seen something only if the 95 % intervals of its median cosine, raw and centred, both lie above those of
    every floor, the centred one above 0 (what the public mean scores by definition) by a margin. Where they do not, but
    its medians alone would be worth reporting, the deletions were too few to tell. What counts is deletions, not
    records: the records of one deletion are no independent draws.

    Args:
        attack: its figures.
        floors: those of the public mean, and of random public records where several records were deleted at once.
    """
    if attack.n > 0 and attack.no_signal == attack.n:
        return "silent"
    if attack.cases < FEWEST:
        return "unclear"
    bar = max((floor.cosine_ci95[1] for floor in floors), default=-1.0)
    centred_bar = max((floor.cosine_centred_ci95[1] for floor in floors), default=0.0)
    above = attack.cosine_ci95[0] > bar and attack.cosine_centred_ci95[0] > max(centred_bar, _MARGIN)
    if not above:
        high = attack.cosine_median > bar and attack.cosine_centred_median > max(centred_bar, _PROMISING)
        return "unclear" if high else "nothing"
    whole = attack.cosine_median >= _BACK[0] and attack.cosine_centred_median >= _BACK[1]
    return "back" if whole else "part"


def leading(arm: ArmResult) -> tuple[str, Grade] | None:
    """The attack that got most back, and how much; None where no reconstruction was tried.

    Where several gave the record back, one that is no baseline; then the one with the higher centred median.
    """
    found = {name: attack for name, attack in reconstructions(arm).items() if name not in _FLOORS}
    if not found:
        return None
    grades = {name: grade(attack, list(_floors(arm).values())) for name, attack in found.items()}
    best = max(
        found,
        key=lambda name: (
            _RANK[grades[name]],
            grades[name] in ("back", "silent") and name not in BASELINES,
            found[name].cosine_centred_median,
        ),
    )
    return best, grades[best]


def _floors(arm: ArmResult) -> dict[str, ReconstructionResult]:
    return {name: attack for name, attack in reconstructions(arm).items() if name in _FLOORS}


def reconstructions(arm: ArmResult) -> dict[str, ReconstructionResult]:
    """The attacks of an arm that answer with records; attacks before baselines, the public mean last.

    Random public records are left out where single records were deleted: they say nothing that the mean does not.
    Where baselines are alone beside attacks of other kinds, none: there is nothing for them to be seen beside.
    """
    found = {name: attack for name, attack in arm.attacks.items() if isinstance(attack, ReconstructionResult)}
    if inferences(arm) and set(found) <= set(BASELINES):
        return {}
    if arm.deletion.records == 1:
        found.pop("public-draw", None)
    return dict(sorted(found.items(), key=lambda item: (item[0] in BASELINES, item[0] == "average")))


def verdict(arm: ArmResult) -> str:
    """One sentence: what was got back, against the public mean, at what utility."""
    led = leading(arm)
    if led is None:
        return _sentence("" if inferences(arm) else "no reconstruction was tried", arm)
    name, how = led
    attack = reconstructions(arm)[name]
    floors = _floors(arm)
    highest = max(floors, key=lambda floor: floors[floor].cosine_median, default=None)
    floor = _FLOORS[highest or "average"]
    against = "" if highest is None else f" against {floors[highest].cosine_median:.2f} for {floor}"
    numbers = f"median cosine {attack.cosine_median:.2f}{against}"
    if how == "silent":
        return _sentence("nothing to read: the released model did not change", arm)
    if how == "unclear":
        return _sentence(f"too few deletions to tell ({attack.cases}): {name} has {_interval(attack, against)}", arm)
    if how == "nothing":
        return _sentence(f"nothing beyond {floor}: {name} has {numbers}{_tail(attack)}", arm)
    if how == "back":
        return _sentence(f"{name} gives {_deleted(arm)} back: {numbers}{_quiet_cases(attack)}", arm)
    return _sentence(f"{name} gets part of {_deleted(arm)}: {_interval(attack, against)}{_quiet_cases(attack)}", arm)


def finding(settings: Sequence[tuple[str, Sequence[ArmResult]]]) -> str:
    """The title of a figure: after which ways of unlearning the records come back, and after which they do not.

    Args:
        settings: phrases such as ``gradient ascent``, each with its arms (one a seed). Arms that disagree count as
            giving back a part.
    """
    groups: dict[Grade, list[str]] = {}
    for phrase, arms in settings:
        grades = {found[1] for found in map(leading, arms) if found is not None}
        if grades:
            groups.setdefault(grades.pop() if len(grades) == 1 else "part", []).append(phrase)
    if not groups:
        return "No reconstruction was tried"
    noun = _deleted(settings[0][1][0])
    how = {
        "back": "",
        "part": "in part ",
        "nothing": "no better than the public mean ",
        "silent": "not at all ",
        "unclear": "perhaps ",
    }
    said = [f"{words}after {_listed(groups[key])}" for key, words in how.items() if key in groups]
    if "unclear" in groups:
        said[-1] += " (too few deletions to tell)"
    verb = "come" if noun.endswith("s") else "comes"
    return f"{noun[:1].upper()}{noun[1:]} {verb} back {'; '.join(said)}"


def headline(arms: Sequence[ArmResult]) -> str:
    """The finding of a whole run; variants are named only where they turned out differently."""
    groups: dict[str, list[ArmResult]] = {}
    for arm in arms:
        groups.setdefault(phrase_of(arm, arms), []).append(arm)
    found: list[tuple[str, list[ArmResult]]] = []
    for phrase, members in groups.items():
        variants = list(dict.fromkeys(arm.variant for arm in members))
        if len({led[1] for led in map(leading, members) if led is not None}) <= 1 or len(variants) == 1:
            found.append((phrase, members))
        else:
            found += [(f"{phrase} ({name})", [a for a in members if a.variant == name]) for name in variants]
    return finding(found)


def phrase_of(arm: ArmResult, arms: Sequence[ArmResult]) -> str:
    """How the data were unlearned and defended, in words that follow ``after``."""
    rule = arm.unlearning
    words: str = {
        "retrain": {
            "same-order": "retraining with the same batch order",
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


def _interval(attack: ReconstructionResult, against: str) -> str:
    low, high = attack.cosine_ci95
    return f"median cosine {attack.cosine_median:.2f} (95 % interval {low:.2f} to {high:.2f}){against}"


def _deleted(arm: ArmResult) -> str:
    """What was deleted, as a noun."""
    if arm.deletion.level == "client":
        return "the client's records"
    if arm.deletion.level == "label":
        return "the deleted class's records"
    return "the deleted records" if arm.deletion.records > 1 else "the deleted record"


def _tail(attack: ReconstructionResult) -> str:
    """Where the median hides it: the best tenth came back."""
    high = attack.cosine_p90 >= _BACK[0] and attack.cosine_centred_p90 >= _BACK[1]
    return f", yet one in ten reaches {attack.cosine_p90:.2f}" if high else ""


def _quiet_cases(attack: ReconstructionResult) -> str:
    """How many records had their deletion change nothing."""
    return f", {attack.no_signal} of {attack.n} without a signal" if attack.no_signal else ""


def _sentence(found: str, arm: ArmResult) -> str:
    """Add what else was inferred, the utility, epsilon where privacy was asked for, and refusals."""
    parts = (found, *inferred(arm.attacks), _utility(arm), _epsilon(arm), _refused(arm))
    return "; ".join(part for part in parts if part) + "."


def _refused(arm: ArmResult) -> str:
    refused = arm.requests.made - arm.requests.completed
    return f"{refused} of {arm.requests.made} requests refused, see the ledger" if refused else ""


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
