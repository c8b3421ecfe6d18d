"""Attack success beside what differential privacy allows, and utility, against epsilon."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palimpsest.simulator.attack_metrics.priors import Share
from palimpsest.simulator.figures.style import INK, PALE, RULE, colour, heading, heading_inches, name, save
from palimpsest.simulator.figures.titles import metric_of
from palimpsest.simulator.results.noise_sweeps import FEWEST
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult, BeforeAndAfter, Spent
from palimpsest.simulator.results.verdicts import BASELINES, number, unlearning_of

_WORDS = {
    "top1": "named among candidates",
    "cosine>=0.9": "cosine at least 0.9",
    "cosine_centred>=0.5": "centred cosine at least 0.5",
}
_ERROR = 0.05


@dataclass(frozen=True)
class TradeoffPoint:
    """Arms that differ by their seed only.

    Attributes:
        epsilon: what a deleted unit has spent in the end, the median; infinite without privacy.
        retained: the highest of those who stay.
        arms: one a seed.
    """

    epsilon: float
    retained: float
    arms: tuple[ArmResult, ...]

    def pooled(self, event: str, attack: str) -> tuple[int, int, float] | None:
        """(successes, deletions, gamma) over the whole sequence of releases; None where it was not judged."""
        rows = [
            row
            for arm in self.arms
            for row in arm.privacy.bounds
            if (row.event, row.attack, row.span) == (event, attack, "sequence")
        ]
        trials = sum(row.n for row in rows)
        if not trials:
            return None
        gamma = sum(row.n * row.gamma for row in rows) / trials
        return round(sum(row.n * row.success for row in rows)), trials, gamma

    def estimated(self, event: str) -> bool:
        """Whether the bound on an event is an estimate: a better guess without any model may exist."""
        return any(row.estimated for arm in self.arms for row in arm.privacy.bounds if row.event == event)


def columns(arms: Sequence[ArmResult]) -> dict[str, list[TradeoffPoint]]:
    """Way of unlearning and private defense -> its points by epsilon, the undefended ones last; private ones only.

    What grows in many steps has a figure of its own (``figures.noise``).
    """
    grouped: dict[tuple[str, str], dict[str, list[ArmResult]]] = {}
    for arm in arms:
        of_kind = grouped.setdefault((unlearning_of(arm, arms), arm.defense.kind), {})
        of_kind.setdefault(repr(arm.defense.to_json()), []).append(arm)
    shown = {}
    for (how, kind), settings in grouped.items():
        points = [_point(arms_of) for arms_of in settings.values()]
        if kind != "none" and 1 < len(points) < FEWEST and all(math.isfinite(point.epsilon) for point in points):
            free = [_point(arms_of) for arms_of in grouped.get((how, "none"), {}).values()]
            shown[f"{how}\nunder {kind}"] = sorted(points, key=lambda point: point.epsilon) + free
    return shown


def tradeoff(run: RunFiles, variant: str) -> Path | None:
    """One column a way of unlearning and private defense: success of its strongest attack by event, and utility."""
    arms = [arm for arm in run.arms if arm.variant == variant]
    shown = columns(arms)
    events = [
        event
        for event in _WORDS
        if any(p.pooled(event, "average") for column_points in shown.values() for p in column_points)
    ]
    if not shown or not events:
        return None
    error = _ERROR / (len(events) * sum(map(len, shown.values())))
    width, row = 1.0 + 2.6 * len(shown), 1.75
    detail = (
        "Dots: share of deletions, with an interval; all intervals hold together with 95 %. Line: the most that any "
        "attack can reach; dashed: an estimate of it, from the best guess without a model that was found. Grey: the "
        "public mean. Epsilon of the deleted unit, below it the highest of those who stay."
    )
    head = heading_inches(width, title(variant, shown, events, error), detail) + 0.35
    figure = Figure(figsize=(width, head + row * (len(events) + 1) + 0.5))
    heading(figure, title(variant, shown, events, error), detail)
    height = figure.get_size_inches()[1]
    floor = min([0.0, *(v for column_points in shown.values() for p in column_points for v in _utilities(p))])
    for column, (label, points) in enumerate(shown.items()):
        for line, event in enumerate([*events, ""]):
            bottom = height - head - (line + 1) * row + 0.25
            left = 0.75 + column * 2.6
            axes = figure.add_axes((left / width, bottom / height, 2.2 / width, (row - 0.4) / height))
            if event:
                _success(axes, points, event, error)
            else:
                _utility(axes, points, floor)
            axes.set_title(label if line == 0 else "", size=9, weight="bold", loc="left")
            if column == 0:
                axes.set_ylabel(_WORDS.get(event, f"test {metric_of(arms)}"), size=8)
            axes.set_xticks(range(len(points)), _ticks(points) if not event else [])
    return save(figure, run.directory.figure("tradeoff", variant))


def attacks_of(points: Sequence[TradeoffPoint]) -> set[str]:
    """All attacks that were judged."""
    return {row.attack for point in points for arm in point.arms for row in arm.privacy.bounds}


def leading(points: Sequence[TradeoffPoint], event: str) -> str:
    """The attack that succeeds most often over all points; no baseline, where there is another."""
    attacks = attacks_of(points)
    real = sorted(attacks.difference(BASELINES)) or sorted(attacks)
    return max(real, key=lambda attack: sum(pooled[0] for p in points if (pooled := p.pooled(event, attack))))


def _point(arms: Sequence[ArmResult]) -> TradeoffPoint:
    spent = [math.inf if (after := _after(arm.privacy.deleted)) is None else after.median for arm in arms]
    retained = [math.inf if (after := _after(arm.privacy.retained)) is None else after.max for arm in arms]
    return TradeoffPoint(float(np.median(spent)), float(max(retained)), tuple(arms))


def _after(spent: BeforeAndAfter | None) -> Spent | None:
    """What units have spent in the end; None without privacy."""
    return None if spent is None else spent.after


def _success(axes: Axes, points: Sequence[TradeoffPoint], event: str, error: float) -> None:
    """One event: the strongest attack's dots and intervals, the bound, and the public mean."""
    attack = leading(points, event)
    for which, ink in (("average", PALE), (attack, colour(attack))):
        for place, point in enumerate(points):
            if (pooled := point.pooled(event, which)) is None:
                continue
            share = Share.of(pooled[0], pooled[1], error)
            if which == attack:
                axes.plot([place, place], [share.low, share.high], color=ink, linewidth=2.4, alpha=0.4)
            axes.plot([place], [share.found], "o" if which == attack else "_", color=ink, markersize=5, clip_on=False)
    gammas = [pooled[2] for point in points if (pooled := point.pooled(event, attack))]
    style = "--" if any(point.estimated(event) for point in points) else "-"
    axes.plot(range(len(gammas)), gammas, style, color=INK, linewidth=1.4, marker="_", clip_on=False)
    axes.set_ylim(0, 1)
    axes.set_xlim(-0.4, len(points) - 0.6)
    axes.set_yticks([0, 0.5, 1])
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.text(0.02, 0.97, name(attack), transform=axes.transAxes, color=colour(attack), size=8, va="top")


def _utilities(point: TradeoffPoint) -> list[float]:
    """Utility after unlearning, of each seed that has one."""
    return [v for arm in point.arms if arm.utility and (v := arm.utility.unlearned) is not None]


def _utility(axes: Axes, points: Sequence[TradeoffPoint], floor: float) -> None:
    """Utility after unlearning, a dot a seed and a line through their medians; the axis begins at ``floor``."""
    medians = []
    for place, point in enumerate(points):
        values = _utilities(point)
        axes.plot([place] * len(values), values, "o", color=PALE, markersize=3, clip_on=False)
        medians.append(float(np.median(values)) if values else math.nan)
    axes.plot(range(len(points)), medians, color=INK, linewidth=1.2)
    axes.set_xlim(-0.4, len(points) - 0.6)
    axes.set_ylim(floor, 1)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_xlabel("epsilon", size=8)


def _ticks(points: Sequence[TradeoffPoint]) -> list[str]:
    return [f"{_short(point.epsilon)}\n{_short(point.retained)}" for point in points]


def _short(epsilon: float) -> str:
    return number(epsilon) if math.isfinite(epsilon) else "∞"


def title(variant: str, shown: Mapping[str, Sequence[TradeoffPoint]], events: Sequence[str], error: float) -> str:
    """Whether any interval lies above its bound, or above an estimate of it."""
    passed = [
        point.estimated(event)
        for points in shown.values()
        for point in points
        for event in events
        for attack in attacks_of(points)
        if (pooled := point.pooled(event, attack)) and Share.of(pooled[0], pooled[1], error).low > pooled[2]
    ]
    counts = {"their bound": passed.count(False), "an estimated bound": passed.count(True)}
    what = " and ".join(
        f"{count} success{'' if count == 1 else 'es'} above {bound}" for bound, count in counts.items() if count
    )
    what = what or "no attack is seen to pass what differential privacy allows"
    return f"{variant}: {what}" if variant else f"{what[:1].upper()}{what[1:]}"
