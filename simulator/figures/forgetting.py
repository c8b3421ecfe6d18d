"""How well each way of unlearning forgets, against what it costs."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from palimpsest.simulator.figures.style import INK, PALE, heading, heading_inches, save, spread
from palimpsest.simulator.results.comparison import ComparisonRow, applies, lines
from palimpsest.simulator.results.run_directory import RunFiles

_COLOURS = {"exact": "#0072B2", "approximate": "#D55E00", "baseline": "#777777"}
_PANEL = 2.5
"""Inches between the left and the right end of a panel's axes."""
_LEFT = 0.9
"""Inches left of a panel, for its ticks and their label."""
_BESIDE = 1.06
"""Where labels start, in panels."""
_SIZE = 7.5
"""Of labels, in points."""


def forgetting(run: RunFiles) -> Path | None:
    """Distance to retraining of every way of unlearning over its client updates, a panel a setting."""
    if not applies(run):
        return None
    panels = {variant: variant_lines for variant in run.variants() if (variant_lines := lines(run, variant))}
    title = "Forgetting against its cost: the nearer to 1, the more like a retraining"
    detail = (
        "Distance to retraining over the distance between two retrainings (dashed: equal), against client updates over "
        "retraining's. Blue: exact; orange: approximate or certified; grey: fine-tuning and no unlearning. "
        f"{len({arm.seed for arm in run.arms})} seeds together."
    )
    longest = max(_inches(_text(point)) for points in panels.values() for point in points)
    column, row = _LEFT + _BESIDE * _PANEL + longest + 0.2, 3.1
    width = 2 * column
    head = heading_inches(width, title, detail) + 0.2
    rows = -(-len(panels) // 2)
    height = head + rows * row
    figure = Figure(figsize=(width, height))
    heading(figure, title, detail)
    for position, (variant, points) in enumerate(panels.items()):
        left, bottom = _LEFT + column * (position % 2), (rows - 1 - position // 2) * row + 0.6
        axes = figure.add_axes((left / width, bottom / height, _PANEL / width, (row - 0.95) / height))
        _panel(axes, points, variant or run.results.scenario)
        if position % 2 == 0:
            axes.set_ylabel("distance to retraining")
        if position // 2 == rows - 1:
            axes.set_xlabel("client updates, of retraining's")
    return save(figure, run.directory.figure("forgetting"))


def _panel(axes: Axes, points: Sequence[ComparisonRow], name: str) -> None:
    """One setting: a dot a way of unlearning, named to the right in the order of the dots."""
    axes.set_title(name, size=9, weight="bold", loc="left")
    axes.set_yscale("log")
    axes.set_xscale("symlog", linthresh=0.01)
    axes.axhline(1.0, color=PALE, linewidth=1.0, linestyle="--", zorder=0)
    floor = min(point.apart for point in points if point.apart > 0.0) / 2
    heights = [max(point.apart, floor) for point in points]
    axes.set_ylim(floor / 1.3, max(2.0, *heights) * 1.3)
    axes.set_xlim(-0.002, max(1.0, *(point.share for point in points)) * 1.6)
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [float(to_axes.transform((1.0, value))[1]) for value in heights]
    labels = spread(places, 0.075)
    for point, value, place in zip(points, heights, labels, strict=True):
        colour = _COLOURS[point.kind]
        axes.plot([point.share], [value], "o", color=colour, markersize=5, clip_on=False)
        axes.annotate(
            _text(point),
            xy=(point.share, value),
            xytext=(_BESIDE, place),
            textcoords="axes fraction",
            color=colour if point.kind != "baseline" else INK,
            va="center",
            size=_SIZE,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.5, "relpos": (0.0, 0.5)},
        )


def _text(point: ComparisonRow) -> str:
    """The label of a dot."""
    return f"{point.label}  {point.apart:.2f}"


def _inches(text: str) -> float:
    """How wide a label is drawn."""
    return float(TextPath((0.0, 0.0), text, size=_SIZE).get_extents().width) / 72
