"""What a chain of requests came to, in one sentence: by request and at its end, and in no median over both."""

from collections.abc import Sequence

from palimpsest.simulator.results.chains import Told, after, chain_of, series, told_of
from palimpsest.simulator.results.evidence import FLOORS, Evidence
from palimpsest.simulator.results.schema import ArmResult

_HUNDREDTH = 0.005
_RECORDS = "centred cosine"


def utility_clause(arm: ArmResult) -> str:
    """``after all 5 requests accuracy 0.97 -> 0.95 (retrained 0.94), lowest 0.63 after Clearwater leaves``."""
    chain, utility = [told_of(row) for row in chain_of(arm)], arm.utility
    begin = f"{after(arm)} requests"
    if utility is None or utility.trained is None or utility.unlearned is None:
        return f"{begin} utility was not measured"
    text = f"{begin} {utility.unit} {utility.trained:.2f} -> {utility.unlearned:.2f}"
    if utility.retrained is not None and abs(utility.retrained - utility.unlearned) >= _HUNDREDTH:
        text += f" (retrained {utility.retrained:.2f})"
    lowest = min((one for one in chain if one.after is not None), key=lambda one: one.after or 0.0)
    if (lowest.after or 0.0) < utility.unlearned - _HUNDREDTH:
        text += f", lowest {lowest.after:.2f} when {lowest.words}"
    return text


def reconstruction_clause(arm: ArmResult, attack: str, shown: Evidence, noun: str) -> str:
    """What the leading attack on records got of each request.

    Args:
        arm: whose requests are a chain.
        attack: that got most back.
        shown: what its figures over all requests show.
        noun: what was deleted.
    """
    if shown.grade == "silent":
        return "nothing to read: the released model did not change"
    chain = [told_of(row) for row in chain_of(arm)]
    floors = [name for name in FLOORS if name in chain[0].attacks]
    floor = max(floors, key=lambda name: sum(_values(chain, name)), default="")
    has = f"{attack} has a centred cosine of {series(_success(chain, attack))} by request"
    has += f" ({FLOORS[floor]}: {series(_success(chain, floor))})" if floor and floor != "average" else ""
    begin = {
        "back": f"{noun} come back",
        "part": f"{noun} come back in part",
        "nothing": f"nothing beyond {FLOORS[floor or 'average']}",
        "unclear": f"too few deletions to tell ({len(chain)})",
    }[shown.grade]
    return f"{begin}: {has}"


def inference_clauses(arm: ArmResult) -> list[str]:
    """A clause a measure: what the attack that rises most above chance got of each request."""
    chain = [told_of(row) for row in chain_of(arm)]
    best: dict[str, tuple[float, str]] = {}
    for kind in dict.fromkeys(kind for one in chain for kind in one.attacks):
        found = [one.attacks[kind] for one in chain if kind in one.attacks]
        known = [got.success - (got.floor or 0.0) for got in found if got.success is not None]
        measure = found[0].measure
        if measure in ("", _RECORDS) or not known:
            continue
        rise = sum(known) / len(known)
        if measure not in best or rise > best[measure][0]:
            best[measure] = rise, kind
    return [_inferred(chain, kind, measure) for measure, (_, kind) in best.items()]


def epsilon_clause(arm: ArmResult) -> str:
    """What leavers and those who stay have paid; empty without privacy."""
    chain = [told_of(row) for row in chain_of(arm)]
    left = [one.leaver for one in chain if one.leaver is not None]
    if not left:
        return ""
    stay = chain[-1].retained
    who = "nobody stays" if stay is None else f"{stay:.3g} for those who stay"
    return f"epsilon {who}, at most {max(left):.3g} for leavers"


def _inferred(chain: Sequence[Told], kind: str, measure: str) -> str:
    chance = [one.attacks[kind].floor if kind in one.attacks else None for one in chain]
    against = f" (without a model {series(chance)})" if any(value is not None for value in chance) else ""
    return f"{kind} gets {series(_success(chain, kind))} of the {measure} by request{against}"


def _success(chain: Sequence[Told], kind: str) -> list[float | None]:
    return [one.attacks[kind].success if kind in one.attacks else None for one in chain]


def _values(chain: Sequence[Told], kind: str) -> list[float]:
    return [value for value in _success(chain, kind) if value is not None]
