"""What attacks on classes and on given records got right, at a glance; drawn from ``results.json``."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palimpsest.simulator.figures.style import INK, PALE, RULE, colour, heading, heading_inches, name, save
from palimpsest.simulator.results.attack_results import AttackResult
from palimpsest.simulator.results.inference_verdicts import inferences, row_of
from palimpsest.simulator.results.run_directory import RunFiles, Setting

_WIDTH, _LINE, _BETWEEN = 8.6, 0.2, 0.22
_LEFT, _RIGHT = 2.6, 3.0


def inference(run: RunFiles) -> Path | None:
    """A line for each attack under each way of unlearning: its success, and a tick where chance would be."""
    settings = [setting for variant in run.variants() for setting in run.settings(variant)]
    settings = [setting for setting in settings if inferences(setting.arms[0])]
    if not settings:
        return None
    title = "What can be inferred about the deleted records"
    detail = (
        "Share of deletions whose class is named; share of records picked out of up to 1,000; share of a leaver's "
        "label histogram that is right; area under the ROC of telling deleted records from others (ring: from the "
        "single model before). Ticks: chance. First seed."
    )
    rows = [list(inferences(setting.arms[0]).items()) for setting in settings]
    tall = sum(len(each) * _LINE + _BETWEEN for each in rows)
    head = heading_inches(_WIDTH, title, detail) + 0.25
    height = head + tall + 0.55
    figure = Figure(figsize=(_WIDTH, height))
    heading(figure, title, detail)
    axes = figure.add_axes((_LEFT / _WIDTH, 0.5 / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, tall / height))
    place = 0.0
    for setting, attacks in zip(settings, rows, strict=True):
        _group(axes, setting, attacks, place, len(run.variants()) > 1)
        place += len(attacks) * _LINE + _BETWEEN
    axes.set_ylim(place - _BETWEEN / 2, -_LINE / 2 - _BETWEEN / 2)
    axes.set_xlim(0.0, 1.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.axvline(1, color=RULE, linewidth=1.0, zorder=0)
    axes.set_xlabel("success")
    return save(figure, run.directory.figure("inference"))


def _group(
    axes: Axes, setting: Setting, attacks: Sequence[tuple[str, AttackResult]], place: float, named: bool
) -> None:
    wide = axes.get_yaxis_transform()
    label = f"{setting.variant}\n{setting.label}" if named else setting.label
    middle = place + (len(attacks) - 1) * _LINE / 2
    axes.text(-0.03, middle, label, transform=wide, ha="right", va="center", weight="bold", size=9)
    for row, (attack, figures) in enumerate(attacks):
        here, tint = place + row * _LINE, colour(attack)
        found = row_of(figures)
        value = found.success
        axes.plot([found.chance] * 2, [here - 0.3 * _LINE, here + 0.3 * _LINE], color=PALE, linewidth=1.2)
        if found.before is not None:
            axes.plot([found.before], [here], "o", mfc="white", mec=tint, markersize=6)
        if value is not None:
            if found.interval is not None:
                axes.plot(found.interval, [here, here], color=tint, linewidth=2.6, alpha=0.45, solid_capstyle="round")
            axes.plot([value], [here], "o", color=tint, markersize=6.5, clip_on=False)
        text = f"{'withheld' if value is None else f'{value:.2f}'}  {name(attack)}, {found.words}"
        axes.text(1.04, here, text, transform=wide, color=tint if value is not None else INK, va="center", size=8.5)
