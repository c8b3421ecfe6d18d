"""What each defense leaves to an attack, and what it costs in accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palimpsest.simulator.figures.style import INK, PALE, RULE, heading, heading_inches, save
from palimpsest.simulator.figures.titles import metric_of
from palimpsest.simulator.results.entry import Interval
from palimpsest.simulator.results.evidence import centred_interval_of
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import defense_of, reconstructions, unlearning_of

_INKS = ("#D55E00", "#0072B2", "#009E73", "#AA4499", "#E69F00", "#332288", "#56B4E9", "#882255")
_FEWEST = 3
_POINT = 0.01


@dataclass(frozen=True)
class Offer:
    """One defense at one strength, against the same unlearning without it; medians over seeds.

    Attributes:
        kind: of defense.
        label: with its strength, where there are several.
        utility: after unlearning.
        left: median centred cosine of the attack that gets most back.
        cost: utility lost to it.
        bought: centred cosine taken from the attack.
        surely: whether intervals show that it takes anything: that of what is left lies below that without a defense.
    """

    kind: str
    label: str
    utility: float
    left: float
    cost: float
    bought: float
    surely: bool = False

    @property
    def per_point(self) -> float:
        """Centred cosine taken away for each hundredth of utility lost, counted as one where less was lost."""
        return self.bought / max(1.0, self.cost / _POINT)


def offers(arms: Sequence[ArmResult]) -> dict[str, list[Offer]]:
    """Way of unlearning -> what each of several defenses offers; where they can be compared with none at all."""
    groups: dict[str, dict[str, list[ArmResult]]] = {}
    for arm in arms:
        if arm.utility is not None and arm.utility.unlearned is not None and reconstructions(arm):
            of_way = groups.setdefault(unlearning_of(arm, arms), {})
            of_way.setdefault(defense_of(arm, arms), []).append(arm)
    found = {}
    for how, settings in groups.items():
        if "" not in settings or len({own[0].defense.kind for own in settings.values()}) <= _FEWEST:
            continue
        free, bare = _utility(settings[""]), _left(settings[""])
        found[how] = [
            Offer(
                kind=own[0].defense.kind,
                label=label,
                utility=_utility(own),
                left=_left(own),
                cost=free - _utility(own),
                bought=bare - max(0.0, _left(own)),
                surely=_less(own, settings[""]),
            )
            for label, own in settings.items()
        ]
    return found


def price(run: RunFiles, variant: str) -> Path | None:
    """One row a way of unlearning: utility against what the attack gets back, and which defense buys most with it."""
    arms = [arm for arm in run.arms if arm.variant == variant]
    shown = offers(arms)
    if not shown:
        return None
    best = {how: max(own, key=lambda offer: offer.per_point) for how, own in shown.items()}
    said = "; ".join(
        f"after {how} {offer.label} buys most for a point of {metric_of(arms)}"
        if offer.surely
        else f"after {how} deletions are too few to tell which defense buys anything"
        for how, offer in best.items()
    )
    title = f"{variant}: {said}" if variant else f"{said[:1].upper()}{said[1:]}"
    detail = (
        "Median centred cosine of the attack that gets most back, against utility; bottom right is best. Table: what "
        f"is left, {metric_of(arms)}, and centred cosine taken away for each hundredth lost (at least one)."
    )
    width, rows = 9.6, [max(3.0, 0.5 + 0.17 * len(own)) for own in shown.values()]
    head = heading_inches(width, title, detail) + 0.3
    figure = Figure(figsize=(width, head + sum(rows) + 0.3))
    heading(figure, title, detail)
    height = figure.get_size_inches()[1]
    inks = dict(zip(dict.fromkeys(o.kind for own in shown.values() for o in own if o.label), _INKS, strict=False))
    top = height - head
    for (how, own), row in zip(shown.items(), rows, strict=True):
        axes = figure.add_axes((0.65 / width, (top - row + 0.65) / height, 4.3 / width, (row - 0.85) / height))
        _cloud(axes, own, inks)
        axes.set_title(how, size=9, weight="bold", loc="left")
        axes.set_xlabel(f"test {metric_of(arms)} after unlearning", size=8)
        axes.set_ylabel("centred cosine", size=8)
        _table(figure, own, inks, top / height)
        top -= row
    return save(figure, run.directory.figure("price", variant))


def _utility(arms: Sequence[ArmResult]) -> float:
    values = [arm.utility.unlearned for arm in arms if arm.utility is not None and arm.utility.unlearned is not None]
    return float(np.median(values))


def _left(arms: Sequence[ArmResult]) -> float:
    """What the strongest attack has; the public mean has 0."""
    return float(
        np.median(
            [max(a.cosine_centred_median for n, a in reconstructions(arm).items() if n != "average") for arm in arms]
        )
    )


def _less(own: Sequence[ArmResult], bare: Sequence[ArmResult]) -> bool:
    """Whether all that attacks get under a defense surely lies below what some attack gets without it, in each seed."""
    left = [interval for arm in own for interval in _intervals(arm)]
    free = [max((interval[0] for interval in _intervals(arm) if interval), default=-1.0) for arm in bare]
    return all(interval is not None and interval[1] < min(free) for interval in left)


def _intervals(arm: ArmResult) -> list[Interval | None]:
    """95 % of each attack's median centred cosine; None where it has no interval."""
    return [centred_interval_of(attack) for name, attack in reconstructions(arm).items() if name != "average"]


def _cloud(axes: Axes, own: Sequence[Offer], inks: Mapping[str, str]) -> None:
    """A dot for each defense and strength; strengths of one defense are joined."""
    for kind in dict.fromkeys(offer.kind for offer in own):
        points = sorted((offer.utility, offer.left) for offer in own if offer.kind == kind)
        ink = inks.get(kind, INK)
        axes.plot(*zip(*points, strict=True), "o-", color=ink, markersize=5, linewidth=1.0, clip_on=False)
        axes.annotate(kind, points[0], xytext=(4, 4), textcoords="offset points", size=7.5, color=ink)
    axes.axhline(0, color=PALE, linewidth=0.8)
    axes.set_ylim(min(-0.1, *(offer.left for offer in own)), 1.0)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def _table(figure: Figure, own: Sequence[Offer], inks: Mapping[str, str], top: float) -> None:
    """Offers from the best to the worst, in text."""
    width, height = figure.get_size_inches()
    ranked = sorted(own, key=lambda offer: -offer.per_point)
    stops = {"defense": 5.3, "left": 8.0, "utility": 8.6, "a point": 9.35}
    for line in range(len(ranked) + 1):
        offer = ranked[line - 1]
        said = (offer.label or "no defense", f"{offer.left:.2f}", f"{offer.utility:.3f}", f"{offer.per_point:.3f}")
        for (title, stop), text in zip(stops.items(), said, strict=True):
            figure.text(
                stop / width,
                top - 0.17 * (line + 1) / height,
                title if line == 0 else text,
                size=7.5,
                color=PALE if line == 0 else inks.get(offer.kind, INK),
                ha="left" if stop < 6 else "right",
            )
