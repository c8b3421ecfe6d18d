"""A chain of requests as a story, from the rows of ``results.json``: what was left after each, and what it told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from palimpsest.simulator.results.evidence import FLOORS
from palimpsest.simulator.results.requests import RequestResult
from palimpsest.simulator.results.schema import ArmResult

_TO = "\u00a0->\u00a0"
"""Between two figures that no line break shall part."""
_LISTED = 8
"""Values of more requests than this are said by the first, the lowest, the highest and the last."""


@dataclass(frozen=True)
class Got:
    """What one attack got of one request.

    Attributes:
        measure: what success is.
        success: at most 1; None where it is withheld.
        floor: what an answer that saw no model has; None where that is not known.
    """

    measure: str
    success: float | None
    floor: float | None


@dataclass(frozen=True)
class Told:
    """What figures and tables show of one accepted request.

    Attributes:
        words: who asked for what, such as ``Clearwater leaves``.
        leaver, retained: epsilon of who leaves and of those who stay, once the request is done.
        retained_before: of those who stay, before it was unlearned.
    """

    number: int
    name: str
    words: str
    rejoined: int | None
    before: float | None
    after: float | None
    retrained: float | None
    leaver: float | None
    retained: float | None
    retained_before: float | None
    attacks: Mapping[str, Got]


def chain_of(arm: ArmResult) -> list[RequestResult]:
    """The accepted requests of an arm, in the order in which they were processed; none where they are alternatives."""
    rows = [row for row in arm.requests if row.accepted] if arm.is_chain else []
    return sorted(rows, key=lambda row: -1 if row.case is None else row.case)


def told_of(row: RequestResult) -> Told:
    """One row, as it is shown."""
    return Told(
        number=row.number,
        name=row.name,
        words=f"{row.name} leaves" if row.level == "client" else f"{row.name}: {_records(row)}",
        rejoined=row.rejoined,
        before=row.utility_before,
        after=row.utility_after,
        retrained=row.utility_retrained,
        leaver=row.epsilon_leaver,
        retained=row.epsilon_retained,
        retained_before=row.epsilon_retained_before,
        attacks={kind: Got(got.measure, got.success, _floor(row, kind)) for kind, got in row.attacks.items()},
    )


def after(arm: ArmResult) -> str:
    """``after all 5``, or ``after the last of 4 accepted``; empty where requests are alternatives."""
    done = len(chain_of(arm))
    if not done:
        return ""
    return f"after all {done}" if done == arm.requests_made else f"after the last of {done} accepted"


def followed_attack(arms: Sequence[ArmResult]) -> str:
    """The attack whose success rises most above what an answer without a model has, over the arms' requests.

    No floor is followed, and empty is returned where no attack was measured by request.
    """
    rise: dict[str, list[float]] = {}
    for arm in arms:
        for told in map(told_of, chain_of(arm)):
            for kind, got in told.attacks.items():
                if kind not in FLOORS and got.success is not None:
                    rise.setdefault(kind, []).append(got.success - (got.floor or 0.0))
    return max(rise, key=lambda kind: sum(rise[kind]) / len(rise[kind]), default="")


def series(values: Sequence[float | None]) -> str:
    """Values of the requests from the first to the last, short."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if len(values) <= _LISTED:
        return ", ".join("-" if value is None else f"{value:.2f}" for value in values)
    return f"{known[0]:.2f} to {known[-1]:.2f} (lowest {min(known):.2f}, highest {max(known):.2f})"


def story(arms: Sequence[ArmResult], labels: Sequence[str], way: str) -> str:
    """The title of a trajectory: what each defense is worth in the end, and who paid for it.

    Args:
        arms: of one way of unlearning, one a defense.
        labels: of the defenses.
        way: the way of unlearning, short.
    """
    said: list[str] = []
    for arm, label in zip(arms, labels, strict=True):
        utility, last = arm.utility, chain_of(arm)[-1]
        if utility is None or utility.trained is None or utility.unlearned is None:
            continue
        worth = f"{utility.trained:.2f}{_TO}{utility.unlearned:.2f}"
        worth = worth if said else f"{utility.unit} {worth}"
        paid = "" if last.epsilon_retained is None else f" (epsilon {last.epsilon_retained:.3g} for those who stay)"
        said.append(f"{worth} with {label}{paid}")
    done = after(arms[0])
    begin = f"{done[:1].upper()}{done[1:]} requests, {way}"
    return f"{begin}: {'; '.join(said)}" if said else begin


def _floor(row: RequestResult, kind: str) -> float | None:
    """What an answer without a model has: the best floor of the same measure that was tried, or chance."""
    got = row.attacks[kind]
    tried = [
        other.success
        for name, other in row.attacks.items()
        if name in FLOORS and other.measure == got.measure and other.success is not None
    ]
    known = [*tried, *([] if got.chance is None else [got.chance])]
    return max(known, default=None)


def _records(row: RequestResult) -> str:
    return f"{row.records} record{'' if row.records == 1 else 's'}"
