"""Distribution of the cosine similarity of every attack."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palimpsest.simulator.figures.style import (
    RULE,
    colour,
    heading,
    heading_inches,
    name,
    save,
)
from palimpsest.simulator.figures.titles import reconstructed, title_of
from palimpsest.simulator.results.run_directory import RunFiles, SettingOfArms
from palimpsest.simulator.results.verdicts import BASELINES


def cosine_cdf(run: RunFiles, variant: str) -> Path | None:
    """Distribution of the cosine similarity, raw and centred, of every attack; one row a way of unlearning."""
    settings = [setting for setting in run.settings(variant) if reconstructed(run, setting)]
    if not settings:
        return None
    title = title_of(run, settings, variant)
    detail = (
        "Share of deleted records whose reconstruction is at most so similar: a curve further right has got more back."
    )
    most = max(run.scores(*setting.arms)["attack"].nunique() for setting in settings)
    width, row, label = 9.6, 0.62 + max(1.1, _LINE * most), 1.62
    starts = {measure: _start(run, settings, measure) for measure in _MEASURES}
    head = heading_inches(width, title, detail)
    figure = Figure(figsize=(width, head + len(settings) * row + 0.35))
    heading(figure, title, detail)
    height = figure.get_size_inches()[1]
    panel = (width - 0.6 - 2 * label - 0.1) / 2
    for line, setting in enumerate(settings):
        scores = run.scores(*setting.arms)
        bottom = height - head - (line + 1) * row + 0.35
        figure.text(0.12 / width, (bottom + row - 0.5) / height, setting.label, size=9, weight="bold", va="bottom")
        for side, (measure, words) in enumerate(_MEASURES.items()):
            left = 0.6 + side * (panel + label + 0.1)
            axes = figure.add_axes((left / width, bottom / height, panel / width, (row - 0.62) / height))
            values = {str(key): rows[measure].to_numpy() for key, rows in scores.groupby("attack")}
            _cumulative(axes, values, starts[measure], _LINE / (row - 0.62))
            if line == len(settings) - 1:
                axes.set_xlabel(words)
            if side == 0:
                axes.set_ylabel("share")
    return save(figure, run.directory.figure("cosine-cdf", variant))


_MEASURES = {"cosine": "cosine similarity", "cosine_centred": "cosine similarity, centred by the public mean"}


_LINE = 0.17
"""Inches from one name to the next."""


def _start(run: RunFiles, settings: Sequence[SettingOfArms], measure: str) -> float:
    """Where the axis of a measure begins in all panels, which are compared."""
    lowest = min(float(run.scores(*setting.arms)[measure].min()) for setting in settings)
    return float(np.floor(min(0.0, lowest) * 5) / 5)


def _cumulative(axes: Axes, values: dict[str, Any], start: float, apart: float) -> None:
    """Empirical distribution functions, named with their medians to the right of the panel, best on top.

    Args:
        axes: of the panel.
        values: of each attack.
        start: of the axis.
        apart: from one name to the next, in panels.
    """
    ranked = sorted(values, key=lambda attack: -float(np.median(values[attack])))
    for attack in ranked[::-1]:
        ordered = np.sort(values[attack])
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        thick = 1.4 if attack in BASELINES else 2.2
        axes.step(
            [start, *ordered, 1], [0, *share, 1], where="post", color=colour(attack), linewidth=thick, clip_on=False
        )
    for line, attack in enumerate(ranked):
        text = f"{name(attack)}  {np.median(values[attack]):.2f}"
        axes.text(1.04, 0.98 - apart * line, text, transform=axes.transAxes, color=colour(attack), va="top", size=8)
    axes.set_xlim(start, 1.0)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
