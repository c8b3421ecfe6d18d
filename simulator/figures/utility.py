"""Utility over rounds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from palimpsest.simulator.figures.style import (
    INK,
    PALE,
    RULE,
    heading,
    heading_inches,
    save,
    spread,
)
from palimpsest.simulator.figures.titles import median_of, metric_of, seeds_of
from palimpsest.simulator.results.run_directory import RunFiles, Setting
from palimpsest.simulator.results.schema import Round


def utility(run: RunFiles, variant: str) -> Path | None:
    """Utility of every release of the training, and to the right of it what is left after each way of unlearning."""
    settings = run.settings(variant)
    curves = {label: lines for label, lines in _curves(run, settings).items() if len(lines[0]) > 1}
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
    head = heading_inches(7.6, title, seeds_of(settings)) + 0.15
    height = head + 3.3
    figure = Figure(figsize=(7.6, height))
    heading(figure, title, seeds_of(settings))
    axes = figure.add_axes((0.09, 0.5 / height, 0.56, 2.8 / height))
    for label, lines in curves.items():
        for line in lines:
            axes.plot(*zip(*line, strict=True), color=INK, linewidth=1.8 if len(lines) == 1 else 1.1, alpha=0.9)
        end = lines[0][-1]
        if len(curves) > 1:
            axes.annotate(label, end, xytext=(-4, -12), textcoords="offset points", ha="right", size=8)
    axes.set_xlim(0, max(line[-1][0] for lines in curves.values() for line in lines))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("round of training")
    axes.set_ylabel(f"test {kind}")
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    _levels(axes, left)
    return save(figure, run.directory.figure("utility", variant))


def _curves(run: RunFiles, settings: Sequence[Setting]) -> dict[str, list[list[tuple[int, float]]]]:
    """Distinct trainings: (round, utility) lines by defense; ways of unlearning share theirs."""
    curves: dict[str, list[list[tuple[int, float]]]] = {}
    for setting in settings:
        for arm in setting.arms:
            releases = run.files(arm).rounds()
            line = [(release.round, value) for release in releases if (value := _charted(release)) is not None]
            known = curves.setdefault(setting.label.partition(" under ")[2] or "no defense", [])
            if line and line not in known:
                known.append(line)
    return {label: lines for label, lines in curves.items() if lines}


def _charted(release: Round) -> float | None:
    """The utility of a round's outcome; None for working models, and where it is not measured or not defined."""
    value = None if release.phase == "working" else release.utility
    return value if value is not None and np.isfinite(value) else None


def _levels(axes: Axes, after: dict[str, float]) -> None:
    """Mark the utility after each way of unlearning at the right end, labels kept apart and below the top."""
    if not after:
        return
    beside = axes.get_yaxis_transform()
    low, high = axes.get_ylim()
    low, high = min(low, *after.values()), max(high, *after.values())
    axes.set_ylim(low, high)
    names = sorted(after, key=lambda label: after[label])
    heights = [after[label] for label in names]
    places = spread(heights, 0.07 * (high - low))
    above = max(0.0, places[-1] + 0.08 * (high - low) - high)
    places = [place - above for place in places]
    axes.plot([1.0] * len(heights), heights, "o", transform=beside, color=INK, markersize=4, clip_on=False)
    title = places[-1] + 0.08 * (high - low)
    axes.text(1.09, title, "after unlearning", transform=beside, size=8, color=PALE, va="center")
    for label, value, place in zip(names, heights, places, strict=True):
        axes.annotate(
            f"{value:.3f}  {label}",
            xy=(1.0, value),
            xytext=(1.09, place),
            xycoords=beside,
            textcoords=beside,
            va="center",
            size=8,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.7, "relpos": (0.0, 0.5)},
        )
