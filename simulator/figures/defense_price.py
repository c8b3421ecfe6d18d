"""What each defense leaves to an attack, and what it costs in accuracy."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palimpsest.simulator.figures.style import PALE, RULE, defense_colour, heading, heading_inches, save, spread
from palimpsest.simulator.figures.titles import metric_of, of_variant
from palimpsest.simulator.results.entry import Interval
from palimpsest.simulator.results.evidence import centred_interval_of
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import defense_of, reconstructions, unlearning_of

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
    offers_of = {}
    for how, settings in groups.items():
        if "" not in settings or len({arms_of[0].defense.kind for arms_of in settings.values()}) <= _FEWEST:
            continue
        free, bare = _utility(settings[""]), _left(settings[""])
        offers_of[how] = [
            Offer(
                kind=arms_of[0].defense.kind,
                label=label,
                utility=_utility(arms_of),
                left=_left(arms_of),
                cost=free - _utility(arms_of),
                bought=bare - max(0.0, _left(arms_of)),
                surely=_less(arms_of, settings[""]),
            )
            for label, arms_of in settings.items()
        ]
    return offers_of


def price(run: RunFiles, variant: str) -> Path | None:
    """One row a way of unlearning: utility against what the attack gets back, and which defense buys most with it."""
    arms = [arm for arm in run.arms if arm.variant == variant]
    shown = offers(arms)
    if not shown:
        return None
    best = {how: max(panel_offers, key=lambda offer: offer.per_point) for how, panel_offers in shown.items()}
    title = [of_variant(text, variant) for text in (_named(best, metric_of(arms)), _counted(best, metric_of(arms)))]
    detail = (
        "Median centred cosine of the attack that gets most back, against utility; bottom right is best. Table: what "
        f"is left, {metric_of(arms)}, and centred cosine taken away for each hundredth lost (at least one)."
    )
    width, rows = 9.6, [max(3.0, 0.5 + 0.17 * len(panel_offers)) for panel_offers in shown.values()]
    head = heading_inches(width, title, detail) + 0.3
    figure = Figure(figsize=(width, head + sum(rows) + 0.3))
    heading(figure, title, detail)
    height = figure.get_size_inches()[1]
    every = [offer for panel_offers in shown.values() for offer in panel_offers]
    top = height - head
    for (how, panel_offers), row in zip(shown.items(), rows, strict=True):
        axes = figure.add_axes((0.65 / width, (top - row + 0.65) / height, 3.1 / width, (row - 0.85) / height))
        _cloud(axes, panel_offers, every, row - 0.85)
        axes.set_title(how, size=9, weight="bold", loc="left")
        axes.set_xlabel(f"test {metric_of(arms)} after unlearning", size=8)
        axes.set_ylabel("centred cosine", size=8)
        _table(figure, panel_offers, top / height)
        top -= row
    return save(figure, run.directory.figure("price", variant))


def _named(best: Mapping[str, Offer], metric: str) -> str:
    """Which defense buys most after each way of unlearning."""
    said = "; ".join(
        f"after {how} {offer.label} buys most for a point of {metric}"
        if offer.surely
        else f"after {how} deletions are too few to tell which defense buys anything"
        for how, offer in best.items()
    )
    return f"{said[:1].upper()}{said[1:]}"


def _counted(best: Mapping[str, Offer], metric: str) -> str:
    """After how many ways of unlearning which kind of defense buys most."""
    counts = Counter(offer.kind for offer in best.values() if offer.surely)
    told = [
        f"{kind} buys most for a point of {metric} after {count} of {len(best)} ways" for kind, count in counts.items()
    ]
    unclear = sum(not offer.surely for offer in best.values())
    told += [f"too few deletions to tell after {unclear} of {len(best)} ways of unlearning"] if unclear else []
    return "; ".join(told)


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


def _less(arms: Sequence[ArmResult], bare: Sequence[ArmResult]) -> bool:
    """Whether all that attacks get under a defense surely lies below what some attack gets without it, in each seed."""
    left = [interval for arm in arms for interval in _intervals(arm)]
    free = [max((interval[0] for interval in _intervals(arm) if interval), default=-1.0) for arm in bare]
    return all(interval is not None and interval[1] < min(free) for interval in left)


def _intervals(arm: ArmResult) -> list[Interval | None]:
    """95 % of each attack's median centred cosine; None where it has no interval."""
    return [centred_interval_of(attack) for name, attack in reconstructions(arm).items() if name != "average"]


def _cloud(axes: Axes, panel_offers: Sequence[Offer], every: Sequence[Offer], tall: float) -> None:
    """A dot for each defense and strength; strengths of one defense are joined, and named to the right.

    Args:
        axes: of the panel.
        panel_offers: of one way of unlearning.
        every: of all, so that panels have the same axes: they are compared.
        tall: height of the panel in inches.
    """
    low = min(-0.1, *(offer.left for offer in every))
    ends: list[tuple[float, str]] = []
    for kind in dict.fromkeys(offer.kind for offer in panel_offers):
        points = sorted((offer.utility, offer.left) for offer in panel_offers if offer.kind == kind)
        axes.plot(
            *zip(*points, strict=True), "o-", color=defense_colour(kind), markersize=5, linewidth=1.0, clip_on=False
        )
        ends.append(((points[-1][1] - low) / (1.0 - low), kind))
    ends.sort()
    for (_, kind), place in zip(ends, spread([height for height, _ in ends], 0.15 / tall), strict=True):
        said = "no defense" if kind == "none" else kind
        axes.text(1.04, place, said, transform=axes.transAxes, size=7.5, color=defense_colour(kind), va="center")
    worth = [offer.utility for offer in every]
    margin = 0.05 * max(max(worth) - min(worth), 0.01)
    axes.set_xlim(min(worth) - margin, max(worth) + margin)
    axes.axhline(0, color=PALE, linewidth=0.8)
    axes.set_ylim(low, 1.0)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def _table(figure: Figure, panel_offers: Sequence[Offer], top: float) -> None:
    """Offers from the best to the worst, in text."""
    width, height = figure.get_size_inches()
    ranked = sorted(panel_offers, key=lambda offer: -offer.per_point)
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
                color=PALE if line == 0 else defense_colour(offer.kind),
                ha="left" if stop < 6 else "right",
            )
