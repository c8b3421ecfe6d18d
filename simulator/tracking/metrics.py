"""An arm's figures as metrics: a dozen that every arm is compared by, and the rest in groups with names."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palimpsest.simulator.results.attack_results import ReconstructionResult
from palimpsest.simulator.results.inference_verdicts import inferences, row_of
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import BASELINES, leading

NO_PRIVACY = 1e9
"""Epsilon of an arm without differential privacy: a number, so that plots against epsilon show the arm."""
HEADLINE = (
    "success", "success_low", "success_high", "label", "top1", "utility", "utility_retrained", "utility_cost",
    "forgetting_gap", "epsilon", "epsilon_retained", "bound", "seconds",
)  # fmt: skip
_GROUPS = {"attacks": "attack", "utility": "utility", "forgetting": "forgetting", "cost": "cost", "notes": "notes"}
_INTERVALS = ("ci95", "interval")


@dataclass(frozen=True)
class Success:
    """What the best attack got.

    Attributes:
        attack: its name.
        measure: what ``value`` is, short.
        value: at most 1.
        interval: 95 % of it; None where there is none.
    """

    attack: str
    measure: str
    value: float
    interval: tuple[float, float] | None


def success_of(arm: ArmResult) -> Success | None:
    """The best attack on records by its centred cosine; where none was tried, the best of the others by its measure.

    None where nothing was attacked, or where success is withheld.
    """
    led = leading(arm)
    attack = arm.attacks[led[0]] if led is not None else None
    if led is not None and isinstance(attack, ReconstructionResult):
        interval = attack.cosine_centred_ci95
        return Success(led[0], "centred cosine", attack.cosine_centred_median, interval)
    rows = {name: row_of(other) for name, other in inferences(arm).items()}
    told = [
        (row.success - row.chance, Success(name, row.words, row.success, row.interval))
        for name, row in rows.items()
        if row.success is not None
    ]
    return max(told, key=lambda pair: pair[0])[1] if told else None


def headline_metrics(arm: ArmResult, undefended: ArmResult | None) -> dict[str, float]:
    """What every arm is compared by, under names without a slash; what does not apply is absent.

    Args:
        arm: whose.
        undefended: of the same data, model, unlearning and seed without a defense: ``utility_cost`` is how much less
            this arm's model is worth than that one's retraining. None: than this arm's retraining.
    """
    if arm.diverged:
        return {"seconds": float(arm.cost.unlearning_seconds)}
    best, utility, forgetting, privacy = success_of(arm), arm.utility, arm.forgetting, arm.privacy
    values: dict[str, float | None] = {"seconds": arm.cost.unlearning_seconds}
    if best is not None:
        low, high = best.interval or (None, None)
        values |= {"success": best.value, "success_low": low, "success_high": high}
    values |= {"label": _figure(arm, best, "label_accuracy"), "top1": _figure(arm, best, "top1_of_1000")}
    if utility is not None:
        values |= {"utility": utility.unlearned, "utility_retrained": utility.retrained}
        values["utility_cost"] = _less(_retrained(undefended or arm), utility.unlearned)
    gap = _less(forgetting.membership_auc, forgetting.membership_auc_retrained)
    values["forgetting_gap"] = None if gap is None else abs(gap)
    stays = privacy.retained
    values["epsilon"] = _epsilon(arm)
    values["epsilon_retained"] = stays.after.max if stays is not None and stays.after else None
    if not is_private(arm):
        values["epsilon_retained"] = NO_PRIVACY
    values["bound"] = _bound(arm, best)
    return {name: float(value) for name in HEADLINE if (value := values.get(name)) is not None}


def is_private(arm: ArmResult) -> bool:
    """Whether differential privacy was asked for."""
    return arm.privacy.epsilon_max is not None


def undefended_of(arm: ArmResult, arms: Iterable[ArmResult]) -> ArmResult | None:
    """The arm that is the same without a defense; None where there is none that has scores."""
    same = (arm.variant, arm.unlearning, arm.seed)
    alike = (other for other in arms if (other.variant, other.unlearning, other.seed) == same)
    return next((other for other in alike if other.defense.kind == "none" and not other.diverged), None)


def grouped_metrics(arm: ArmResult) -> dict[str, float]:
    """All other figures, such as ``attack/hrec/cosine_median`` and ``bound/top1/hrec/pair/gamma``."""
    entry = arm.to_json()
    found: dict[str, float] = {}
    for key, group in _GROUPS.items():
        found |= _numbers(entry.get(key), group)
    privacy = dict(entry["privacy"])
    for bound in privacy.pop("bounds", ()):
        place = "/".join(("bound", bound["event"], bound["attack"], bound["span"]))
        found |= _numbers({name: bound[name] for name in ("gamma", "success")}, place)  # all of it: the table bounds
    found |= _numbers(privacy, "privacy")
    if (epsilon := _epsilon(arm)) is not None and epsilon > 0.0:
        found["privacy/log10_epsilon"] = math.log10(epsilon)  # MLflow's scatter plots have no logarithmic axis
    return found


def metric_name(text: str) -> str:
    """A name as MLflow takes it: ``cosine>=0.9`` is ``cosine at least 0.9``."""
    return re.sub(r"[^\w./ :-]", "_", text.replace(">=", " at least "))[:250]


def _numbers(tree: Any, path: str) -> dict[str, float]:
    """Names and values of the numeric leaves; an interval has ``low`` and ``high``, other lists are no metrics."""
    if isinstance(tree, bool | int | float):
        return {metric_name(path): float(tree)}
    if isinstance(tree, list | tuple) and path.endswith(_INTERVALS) and len(tree) == 2:
        tree = {"low": tree[0], "high": tree[1]}
    found: dict[str, float] = {}
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        found |= _numbers(value, f"{path}/{key}")
    return found


def _figure(arm: ArmResult, best: Success | None, name: str) -> float | None:
    """A figure of the best attack; where it has none, the highest of any attack that is no baseline."""
    if best is not None and (own := arm.attacks[best.attack].figure(name)) is not None:
        return own
    others = [attack.figure(name) for kind, attack in arm.attacks.items() if kind not in BASELINES]
    return max((value for value in others if value is not None), default=None)


def _retrained(arm: ArmResult) -> float | None:
    return None if arm.utility is None else arm.utility.retrained


def _epsilon(arm: ArmResult) -> float | None:
    """The highest that a deleted unit has paid; of arms that deleted nothing, that any unit has."""
    if not is_private(arm):
        return NO_PRIVACY
    deleted = arm.privacy.deleted
    return deleted.after.max if deleted is not None and deleted.after else arm.privacy.epsilon_max


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _bound(arm: ArmResult, best: Success | None) -> float | None:
    """How often the record can be picked out of the candidates at most, by the best attack on all releases."""
    rows: Sequence[Any] = [row for row in arm.privacy.bounds if row.event == "top1" and row.span == "sequence"]
    named = [row.gamma for row in rows if best is not None and row.attack == best.attack]
    return next(iter(named or [row.gamma for row in rows]), None)
