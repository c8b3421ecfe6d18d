"""What attacks on classes and on given records got right, at a glance; drawn from ``results.json``."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palimpsest.simulator.figures.style import INK, PALE, RULE, colour, heading, heading_inches, name, save, wrapped
from palimpsest.simulator.results.attack_results import AttackResult
from palimpsest.simulator.results.inference_verdicts import inferences, row_of
from palimpsest.simulator.results.run_directory import RunFiles, SettingOfArms

_WIDTH, _LINE, _BETWEEN = 8.6, 0.2, 0.22
_LEFT, _RIGHT = 2.6, 3.0


def inference(run: RunFiles) -> Path | None:
    """A line for each attack under each way of unlearning: its success, and a tick where chance would be."""
    settings = [setting for variant in run.variants() for setting in run.settings(variant)]
    settings = [setting for setting in settings if inferences(setting.arms[0])]
    if not settings:
        return None
    title = _title(run, settings)
    detail = (
        "Share of deletions whose class is named; share of records picked out of up to 1,000; share of a leaver's "
        "label histogram that is right; area under the ROC of telling deleted records from others (ring: from the "
        "single model before). Ticks: chance. First seed."
    )
    rows = [list(inferences(setting.arms[0]).items()) for setting in settings]
    several = len(run.variants()) > 1
    labels = [wrapped(f"{s.variant}\n{s.label}" if several else s.label, _LEFT - 0.25) for s in settings]
    lines = [max(len(own), math.ceil((1 + text.count("\n")) * 0.9)) for own, text in zip(rows, labels, strict=True)]
    tall = sum(each * _LINE + _BETWEEN for each in lines)
    head = heading_inches(_WIDTH, title, detail) + 0.25
    height = head + tall + 0.55
    figure = Figure(figsize=(_WIDTH, height))
    heading(figure, title, detail)
    axes = figure.add_axes((_LEFT / _WIDTH, 0.5 / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, tall / height))
    place = 0.0
    for label, attacks, each in zip(labels, rows, lines, strict=True):
        _group(axes, label, attacks, place)
        place += each * _LINE + _BETWEEN
    axes.set_ylim(place - _BETWEEN / 2, -_LINE / 2 - _BETWEEN / 2)
    axes.set_xlim(0.0, 1.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.axvline(1, color=RULE, linewidth=1.0, zorder=0)
    axes.set_xlabel("success")
    return save(figure, run.directory.figure("inference"))


def _title(run: RunFiles, settings: Sequence[SettingOfArms]) -> list[str]:
    """The attack that is furthest above chance, with its numbers; shorter where its setting has a long name."""
    found = [
        (row.success - row.chance, attack, row, setting)
        for setting in settings
        for attack, figures in inferences(setting.arms[0]).items()
        if (row := row_of(figures)).success is not None
    ]
    if not found:
        return ["Nothing can be said of what is inferred about the deleted records: all of it is withheld"]
    _, attack, row, setting = max(found, key=lambda one: one[0])
    said = f"{name(attack)} has {row.success:.2f} ({row.words}), where chance has {row.chance:.2f}"
    where = f"{setting.label} ({setting.variant})" if len(run.variants()) > 1 else setting.label
    return [f"At most, {said}: after {where}", f"At most, {said}"]


def _group(axes: Axes, label: str, attacks: Sequence[tuple[str, AttackResult]], place: float) -> None:
    wide = axes.get_yaxis_transform()
    middle = place + (len(attacks) - 1) * _LINE / 2
    axes.text(-0.03, middle, label, transform=wide, ha="right", va="center", weight="bold", size=9)
    for row, (attack, figures) in enumerate(attacks):
        here, tint = place + row * _LINE, colour(attack)
        figures_row = row_of(figures)
        value = figures_row.success
        axes.plot([figures_row.chance] * 2, [here - 0.3 * _LINE, here + 0.3 * _LINE], color=PALE, linewidth=1.2)
        if figures_row.before is not None:
            axes.plot([figures_row.before], [here], "o", mfc="white", mec=tint, markersize=6)
        if value is not None:
            if figures_row.interval is not None:
                axes.plot(
                    figures_row.interval, [here, here], color=tint, linewidth=2.6, alpha=0.45, solid_capstyle="round"
                )
            axes.plot([value], [here], "o", color=tint, markersize=6.5, clip_on=False)
        text = f"{'withheld' if value is None else f'{value:.2f}'}  {name(attack)}, {figures_row.words}"
        axes.text(1.04, here, text, transform=wide, color=tint if value is not None else INK, va="center", size=8.5)
