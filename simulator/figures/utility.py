"""Utility over rounds."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from palimpsest.simulator.figures.style import (
    INK,
    PALE,
    RULE,
    defense_colour,
    heading,
    heading_inches,
    save,
    spread,
)
from palimpsest.simulator.figures.titles import median_of, metric_of, seeds_of
from palimpsest.simulator.results.run_directory import RunFiles, SettingOfArms
from palimpsest.simulator.results.schema import Round
from palimpsest.simulator.results.verdicts import defense_of

_LINE = 0.19
"""Inches from one label to the next."""


def utility(run: RunFiles, variant: str) -> Path | None:
    """Utility of every release of the training, and to the right of it what is left after each way of unlearning."""
    settings = run.settings(variant)
    curves = {defense: lines for defense, lines in _curves(run, settings).items() if len(lines[0]) > 1}
    if not curves:
        return None
    kind = metric_of([arm for setting in settings for arm in setting.arms])
    after = {setting.label: median_of(setting.arms, lambda utility: utility.unlearned) for setting in settings}
    before = median_of(settings[0].arms, lambda utility: utility.trained)
    title = f"Test {kind} reaches {before:.2f}" if before is not None else f"Test {kind} in training"
    left = {label: value for label, value in after.items() if value is not None}
    if before is not None and left:
        worst = min(left, key=lambda label: left[label])
        lost = before - left[worst]
        title += f"; {worst} costs {lost:.2f}" if lost >= 0.01 else "; no way of unlearning costs a hundredth"
    title = f"{variant}: {title[:1].lower()}{title[1:]}" if variant else title
    inks = {setting.label: defense_colour(setting.arms[0].defense.kind) for setting in settings}
    panel = max(2.8, _LINE * (len(left) + 2))
    width = max(7.6, 5.45 + 0.068 * max((len(f"0.000  {label}") for label in left), default=0))
    head = heading_inches(width, title, seeds_of(settings)) + 0.15
    height = head + panel + 0.5
    figure = Figure(figsize=(width, height))
    heading(figure, title, seeds_of(settings))
    axes = figure.add_axes((0.68 / width, 0.5 / height, 4.26 / width, panel / height))
    for (_, kind_of_defense), lines in curves.items():
        for line in lines:
            thick = 1.8 if len(lines) == 1 else 1.1
            axes.plot(*zip(*line, strict=True), color=defense_colour(kind_of_defense), linewidth=thick, alpha=0.9)
    axes.set_xlim(0, max(line[-1][0] for lines in curves.values() for line in lines))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("round of training")
    axes.set_ylabel(f"test {kind}")
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    _levels(axes, left, inks, panel)
    return save(figure, run.directory.figure("utility", variant))


def _curves(run: RunFiles, settings: Sequence[SettingOfArms]) -> dict[tuple[str, str], list[list[tuple[int, float]]]]:
    """Distinct trainings: (round, utility) lines by defense and its kind; ways of unlearning share theirs."""
    curves: dict[tuple[str, str], list[list[tuple[int, float]]]] = {}
    for setting in sorted(settings, key=lambda one: one.arms[0].defense.kind != "none"):  # its colour, where shared
        for arm in setting.arms:
            releases = takewhile(lambda one: one.phase in ("training", "working"), run.files(arm).rounds())
            line = [(release.round, value) for release in releases if (value := _charted(release)) is not None]
            known = curves.setdefault((defense_of(arm, run.arms), arm.defense.kind), [])
            if line and not any(line in lines for lines in curves.values()):
                known.append(line)
    return {defense: lines for defense, lines in curves.items() if lines}


def _charted(release: Round) -> float | None:
    """The utility of a round's outcome; None for working models, and where it is not measured or not defined."""
    value = None if release.phase == "working" else release.utility
    return value if value is not None and np.isfinite(value) else None


def _levels(axes: Axes, after: Mapping[str, float], inks: Mapping[str, str], panel: float) -> None:
    """Mark the utility after each way of unlearning at the right end, labels kept apart and within the panel.

    Args:
        axes: of the panel.
        after: by the label of the setting.
        inks: the colour of its defense.
        panel: height in inches.
    """
    if not after:
        return
    beside = axes.get_yaxis_transform()
    low, high = axes.get_ylim()
    low, high = min(low, *after.values()), max(high, *after.values())
    axes.set_ylim(low, high)
    names = sorted(after, key=lambda label: after[label])
    heights = [after[label] for label in names]
    apart = _LINE / panel * (high - low)
    places = spread(heights, apart)
    places = [place + max(0.0, low - places[0]) for place in places]
    places = [place - max(0.0, places[-1] + apart - high) for place in places]
    axes.plot([1.0] * len(heights), heights, "o", transform=beside, color=INK, markersize=4, clip_on=False)
    axes.text(1.09, places[-1] + apart, "after unlearning", transform=beside, size=8, color=PALE, va="center")
    for label, value, place in zip(names, heights, places, strict=True):
        axes.annotate(
            f"{value:.3f}  {label}",
            xy=(1.0, value),
            xytext=(1.09, place),
            xycoords=beside,
            textcoords=beside,
            va="center",
            size=8,
            color=inks[label],
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.7, "relpos": (0.0, 0.5)},
        )
