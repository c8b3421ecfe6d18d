"""Everything at a glance."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palimpsest.simulator.figures.style import (
    PALE,
    RULE,
    colour,
    heading,
    heading_inches,
    name,
    save,
    wrapped,
)
from palimpsest.simulator.figures.titles import reconstructed, seeds_of
from palimpsest.simulator.results.run_directory import RunFiles, SettingOfArms
from palimpsest.simulator.results.verdicts import headline, reconstructions


def summary(run: RunFiles) -> Path | None:
    """The answer at a glance: centred cosine of every attack under every way of unlearning, median and p10 to p90."""
    settings = [setting for variant in run.variants() for setting in run.settings(variant)]
    settings = [setting for setting in settings if reconstructed(run, setting)]
    if not settings:
        return None
    shown = [arm for setting in settings for arm in setting.arms]
    title = [headline(shown), headline(shown, brief=True), headline(shown, brief=True, labels=True)]
    detail = (
        "Median centred cosine similarity of reconstruction and deleted record, and its 10th to 90th percentile. "
        f"0 is what the public mean scores, 1 the record itself. {seeds_of(settings)}"
    )
    width, line, between = 8.6, 0.2, 0.22
    attacks = [[a for a in reconstructions(setting.arms[0]) if a != "average"] for setting in settings]
    labels = [wrapped(_label(run, setting), 2.35) for setting in settings]
    rows = [
        max(len(names), math.ceil((1 + text.count("\n")) * 0.9)) for names, text in zip(attacks, labels, strict=True)
    ]
    tall = sum(each * line + between for each in rows)
    head = heading_inches(width, title, detail) + 0.25
    height = head + tall + 0.55
    figure = Figure(figsize=(width, height))
    heading(figure, title, detail)
    axes = figure.add_axes((2.6 / width, 0.5 / height, (width - 2.6 - 2.25) / width, tall / height))
    place, lowest = 0.0, 0.0
    for setting, names, label, each in zip(settings, attacks, labels, rows, strict=True):
        lowest = min(lowest, _group(axes, run, setting, names, label, place, line))
        place += each * line + between
    axes.set_ylim(place - between / 2, -line / 2 - between / 2)
    axes.set_xlim(max(-1.0, lowest - 0.05), 1.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=PALE, linewidth=1.0, zorder=0)
    axes.axvline(1, color=RULE, linewidth=1.0, zorder=0)
    axes.set_xlabel("cosine similarity, centred by the public mean")
    return save(figure, run.directory.figure("summary"))


def _label(run: RunFiles, setting: SettingOfArms) -> str:
    return f"{setting.variant}\n{setting.label}" if len(run.variants()) > 1 else setting.label


def _group(
    axes: Axes, run: RunFiles, setting: SettingOfArms, attacks: Sequence[str], label: str, place: float, line: float
) -> float:
    """Dots and ranges of one way of unlearning; return the lowest value drawn."""
    scores = run.scores(*setting.arms)
    wide = axes.get_yaxis_transform()
    middle = place + (len(attacks) - 1) * line / 2
    axes.text(-0.03, middle, label, transform=wide, ha="right", va="center", weight="bold", size=9)
    lowest = 0.0
    for row, attack in enumerate(attacks):
        values = scores.loc[scores["attack"] == attack, "cosine_centred"].to_numpy()
        low, median, high = np.quantile(values, [0.1, 0.5, 0.9])
        here = place + row * line
        axes.plot([low, high], [here, here], color=colour(attack), linewidth=2.6, alpha=0.45, solid_capstyle="round")
        axes.plot([median], [here], "o", color=colour(attack), markersize=6.5, clip_on=False)
        axes.text(
            1.04, here, f"{median:.2f}  {name(attack)}", transform=wide, color=colour(attack), va="center", size=8.5
        )
        lowest = min(lowest, float(low))
    return lowest
