"""How much noise stops every attack, how much is guaranteed to, and what either costs; from ``results.json`` alone.

A sweep is one way of unlearning under one kind of defense whose noise alone grows. Every attack of its arms counts, by
name, whichever they are; what knows no model (the public mean) is shown beside them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from palimpsest.simulator.results.evidence import FLOORS
from palimpsest.simulator.results.intervals import share_interval
from palimpsest.simulator.results.schema import ArmResult, Bound
from palimpsest.simulator.results.verdicts import unlearning_of
from palimpsest.simulator.world.privacy.strengths import STRENGTHS, strength_of

TOLERATED = 0.1
"""An attack is stopped where it succeeds on one deletion in so many at most, and a bound of as much is a guarantee."""
FEWEST = 6
"""Strengths of noise that make a sweep."""
FRESH = "same-order"
"""The coupling of a private retraining: its coins and noise are its own."""
_HIDING: Mapping[str, str] = {
    "same-noise": "same coins, same noise",
    "same-coins": "same coins, fresh noise",
    FRESH: "fresh coins, fresh noise",
}
_SPAN = "pair"
AT_ONE_PERCENT = "tpr_at_1_percent"
_PICKED = ("top1_of_1000", AT_ONE_PERCENT)
"""Figures of attacks that answer with no record: the share of deletions whose record was picked out of candidates, or
told from held-out records of which one in a hundred was taken for deleted too."""
_Way: TypeAlias = tuple[str, str]
"""A variant and a way of unlearning."""
_ERROR = 0.05


@dataclass(frozen=True)
class Success:
    """How often one attack succeeded on the deletions of all seeds, with an interval.

    Attributes:
        judges: whether it judged given records, at one false positive in a hundred.
    """

    attack: str
    share: float
    low: float
    high: float
    trials: int
    judges: bool = False

    @property
    def name(self) -> str:
        """What readers call the attack; with its rate of false positives where it judges given records."""
        return f"{self.attack} (at 1 %)" if self.judges else self.attack


@dataclass(frozen=True)
class Step:
    """One strength of noise, all seeds together.

    Attributes:
        noise: 0 without a defense.
        epsilon: what a deleted unit has spent in the end, the highest median of any seed; None: without limit.
        attacks: all that were judged, the most successful one first; none of what knows no model.
        floor: success of the public mean; None where it was not tried.
        gamma: the most that any attack can reach.
        kappa: what is reached without any model.
        utilities: after unlearning, one a seed.
    """

    noise: float
    epsilon: float | None
    attacks: tuple[Success, ...]
    floor: float | None
    gamma: float
    kappa: float
    utilities: tuple[float, ...]

    @property
    def best(self) -> Success:
        """The attack that succeeded most often."""
        return self.attacks[0]

    @property
    def utility(self) -> float | None:
        """The median over seeds."""
        ranked = sorted(self.utilities)
        return (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2.0 if ranked else None


@dataclass(frozen=True)
class Sweep:
    """One way of unlearning under growing noise.

    Attributes:
        variant: of the scenario.
        method: the way of unlearning, its coupling left out.
        hiding: which randomness is fresh, where a retraining says so; else empty.
        defense: the kind.
        knob: what the noise is called.
        event: what counts as a success.
        metric: what utility is.
        steps: from no noise to the most.
    """

    variant: str
    method: str
    hiding: str
    defense: str
    knob: str
    event: str
    metric: str
    steps: tuple[Step, ...]

    @property
    def repeats(self) -> bool:
        """Whether it draws again what a private unlearning would not: it shows what hides."""
        return self.hiding not in ("", _HIDING[FRESH])

    @property
    def stops(self) -> Step | None:
        """The least noise from which on no attack succeeds more often than ``TOLERATED``."""
        return self._from_on(lambda step: step.best.share <= TOLERATED)

    @property
    def guaranteed(self) -> Step | None:
        """The least noise from which on no attack CAN succeed more often than ``TOLERATED``."""
        return self._from_on(lambda step: step.gamma <= TOLERATED)

    def cost(self, step: Step) -> float | None:
        """Utility that a strength of noise takes."""
        free = self.steps[0].utility
        return None if free is None or step.utility is None else free - step.utility

    def _from_on(self, holds: Callable[[Step], bool]) -> Step | None:
        found = None
        for step in reversed(self.steps):
            if not holds(step):
                break
            found = step
        return found


def sweeps(arms: Sequence[ArmResult]) -> list[Sweep]:
    """The sweeps of a run, in the order of its arms; intervals of all of them hold together with 95 % (Bonferroni)."""
    bare: dict[_Way, list[ArmResult]] = {}
    defended: dict[tuple[_Way, str, str], dict[float, list[ArmResult]]] = {}
    for arm in (arm for arm in arms if not arm.diverged):
        way = arm.variant, unlearning_of(arm, arms)
        if arm.defense.kind == "none":
            bare.setdefault(way, []).append(arm)
        elif (known := _noise(arm)) is not None:
            defended.setdefault((way, arm.defense.kind, known[0]), {}).setdefault(known[1], []).append(arm)
    swept = {
        key: {0.0: bare[key[0]], **dict(sorted(levels.items()))}
        for key, levels in defended.items()
        if len(levels) >= FEWEST and key[0] in bare
    }
    intervals = sum(len(_attacks(arms_of)) for levels in swept.values() for arms_of in levels.values())
    found = [_sweep(key, levels, _ERROR / max(intervals, 1)) for key, levels in swept.items()]
    return [sweep for sweep in found if sweep is not None]


def _noise(arm: ArmResult) -> tuple[str, float] | None:
    """The knob of an arm's defense, and how far it is turned; None where it is no noise that is given."""
    given = arm.defense.to_json()
    return strength_of(given) if given.get("target_epsilon") is None else None


def _sweep(key: tuple[_Way, str, str], levels: Mapping[float, Sequence[ArmResult]], error: float) -> Sweep | None:
    """None where an attack was judged nowhere, or not on every strength."""
    (variant, way), defense, knob = key
    every = [arm for arms_of in levels.values() for arm in arms_of]
    event = next((row.event for arm in every for row in arm.privacy.bounds), "")
    if not event or not all(_attacks(arms_of) and _rows(arms_of, event) for arms_of in levels.values()):
        return None
    rule = every[0].unlearning
    return Sweep(
        variant=variant,
        method=rule.method if rule.coupling else way,
        hiding=_HIDING.get(rule.coupling, rule.coupling),
        defense=defense,
        knob=STRENGTHS[knob],
        event=event,
        metric=next((arm.utility.unit for arm in every if arm.utility is not None), "utility"),
        steps=tuple(_step(noise, arms_of, event, error) for noise, arms_of in levels.items()),
    )


def _attacks(arms: Sequence[ArmResult]) -> list[str]:
    """The attacks of all seeds that have a share of successes, in their order; none of what knows no model."""
    return [name for name in arms[0].attacks if name not in FLOORS and all(map(_tried(name), arms))]


def _tried(name: str) -> Callable[[ArmResult], bool]:
    return lambda arm: bool(_shares([arm], name, ""))


def _rows(arms: Sequence[ArmResult], event: str) -> list[Bound]:
    """What was said of an event on what a server broadcasts that deletes once: a deletion's own branch."""
    return [row for arm in arms for row in arm.privacy.bounds if (row.event, row.span) == (event, _SPAN)]


def _shares(arms: Sequence[ArmResult], name: str, event: str) -> list[tuple[float, int]]:
    """(share, deletions) of each seed, of an event, or of any: from what stands beside the bound, else from the attack.

    An attack that answers with no record has no row there; see ``_PICKED``.
    """
    found = []
    for arm in arms:
        rows = [row for row in arm.privacy.bounds if row.attack == name and row.span == _SPAN]
        rows = [row for row in rows if row.event == event] if event else rows
        if rows:
            found.append((float(rows[0].success), rows[0].n))
        elif (attack := arm.attacks.get(name)) is not None:
            picked = [value for figure in _PICKED if (value := attack.figure(figure)) is not None]
            found += [(float(picked[0]), attack.cases)] if picked else []
    return found


def _success(arms: Sequence[ArmResult], name: str, event: str, error: float) -> Success | None:
    shares = _shares(arms, name, event)
    trials = sum(count for _, count in shares)
    if not trials:
        return None
    share = sum(value * count for value, count in shares) / trials
    judges = name in arms[0].attacks and arms[0].attacks[name].figure(AT_ONE_PERCENT) is not None
    return Success(name, share, *share_interval(share, trials, error), trials, judges)


def _step(noise: float, arms: Sequence[ArmResult], event: str, error: float) -> Step:
    rows = _rows(arms, event)
    judged = [found for name in _attacks(arms) if (found := _success(arms, name, event, error)) is not None]
    after = [None if (of := arm.privacy.deleted) is None or of.after is None else of.after.median for arm in arms]
    spent = [value for value in after if value is not None]
    floor = _success(arms, "average", event, error)
    return Step(
        noise=noise,
        epsilon=float(max(spent)) if len(spent) == len(arms) else None,
        attacks=tuple(sorted(judged, key=lambda found: -found.share)),
        floor=None if floor is None else floor.share,
        gamma=float(sum(row.gamma * row.n for row in rows) / sum(row.n for row in rows)),
        kappa=float(max(row.kappa for row in rows)),
        utilities=tuple(float(v) for arm in arms if arm.utility and (v := arm.utility.unlearned) is not None),
    )
