"""How much noise stops every attack, how much is guaranteed to, and what either costs: one figure a run."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palimpsest.simulator.figures.style import (
    INK,
    PALE,
    RULE,
    colour,
    describe,
    heading,
    heading_inches,
    name,
    save,
    wrapped,
)
from palimpsest.simulator.results.noise_sweeps import TOLERATED, Step, Sweep, sweeps
from palimpsest.simulator.results.noise_table import answer, sentence, short, title
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.verdicts import number

_PANEL, _GAP, _LEFT = 2.4, 0.25, 0.7
_NARROWEST, _NAME = 8.0, 0.17
_SUCCESS, _UTILITY, _BETWEEN, _TICKS, _LINE = 1.9, 1.15, 0.18, 1.15, 0.15
"""Inches: width of a panel and what is between two; the least width, a line of names; heights of the rows, and of what
stands between, below and above them."""
_STYLES = ("-", "--", ":")
_STOPPED = "#117733"
_SURE = "#332288"

Panel = Sequence[Sweep]
"""Sweeps of one way of unlearning under one defense, fresh randomness first."""


def noise(run: RunFiles) -> Path | None:
    """A column a way of unlearning: success of every attack with the bound above it, and utility below."""
    found = sweeps(run.arms)
    if not found:
        return None
    return save(draw(found), run.directory.figure("noise"))


def draw(found: Sequence[Sweep]) -> Figure:
    """The figure of some sweeps."""
    shown = panels(found)
    width = max(_NARROWEST, _LEFT + len(shown) * (_PANEL + _GAP))
    detail = (
        "Above: share of deletions on which each attack succeeds, bars: interval of the best one, all together 95 %; "
        "black: the most that ANY attack can reach. Green: from there on no attack tried succeeds on more than one "
        f"deletion in {round(1 / TOLERATED)}; blue: none can. Noise, and epsilon of the deleted record, below."
    )
    names, top = _names(found, width), heading_inches(width, answer(found), detail)
    head = top + _NAME * len(names) + 0.1
    lines = [_lines(panel) for panel in shown]
    above = _LINE * max(map(len, lines)) + 0.1
    figure = Figure(figsize=(width, head + above + _SUCCESS + _BETWEEN + _UTILITY + _TICKS))
    heading(figure, answer(found), detail)
    describe(figure, f"{answer(found)}. " + " ".join(f"{title(s)}: {sentence(s)}." for s in found))
    for place, line in enumerate(names):
        for left, label, ink in line:
            at = 1 - (top + _NAME * place) / figure.get_size_inches()[1]
            figure.text(left / width, at, label, size=8, color=ink, weight="bold", va="top")
    floor = min(0.0, *(v for sweep in found for step in sweep.steps for v in step.utilities))
    for place, panel in enumerate(shown):
        _panel(figure, panel, lines[place], (_LEFT + place * (_PANEL + _GAP), head + above), floor)
    return figure


def panels(found: Sequence[Sweep]) -> list[Panel]:
    """Sweeps that differ in what they draw again share a panel."""
    grouped: dict[tuple[str, str, str], list[Sweep]] = {}
    for sweep in found:
        grouped.setdefault((sweep.variant, sweep.method, sweep.defense), []).append(sweep)
    return [sorted(panel, key=lambda sweep: sweep.repeats) for panel in grouped.values()]


def _lines(panel: Panel) -> list[tuple[str, str]]:
    """What stands above a panel: (text, colour)."""
    first = panel[0]
    said = [(line, INK) for line in wrapped(f"{first.method} under {first.defense}", _PANEL, 9).split("\n")]
    for sweep, style in zip(panel, ("line", "dashed", "dotted"), strict=False):
        whose = f"{style}: {sweep.hiding}, " if sweep.hiding else "stopped "
        said.append((f"{whose}{_from(sweep, sweep.stops, 'never')}", _STOPPED))
    said.append((f"guaranteed {_from(first, first.guaranteed, 'at no noise tried')}", _SURE))
    return said


def _from(sweep: Sweep, step: Step | None, never: str) -> str:
    if step is None:
        return never
    cost = sweep.cost(step)
    costs = "" if cost is None or (sweep.hiding and step is sweep.stops) else f", costs {max(cost, 0.0):.2f}"
    return f"from {number(step.noise)}{costs}"


def _names(found: Sequence[Sweep], width: float) -> list[list[tuple[float, str, str]]]:
    """Names of attacks in their colours, in lines: (inches from the left, name, colour)."""
    attacks = {tried.attack: tried.name for sweep in found for step in sweep.steps for tried in step.attacks}
    inks = {name(said): colour(kind) for kind, said in attacks.items()}
    lines: list[list[tuple[float, str, str]]] = [[]]
    left = _LEFT
    for label, ink in {**inks, "public mean": PALE, "bound": INK}.items():
        across = 0.08 * len(label) + 0.2
        if lines[-1] and left + across > width:
            lines.append([])
            left = _LEFT
        lines[-1].append((left, label, ink))
        left += across
    return lines


def _panel(
    figure: Figure, panel: Panel, lines: Sequence[tuple[str, str]], corner: tuple[float, float], floor: float
) -> None:
    """Two axes and the lines above them; ``corner`` is at their top left, in inches."""
    width, height = figure.get_size_inches()
    left, top = corner
    for place, (text, ink) in enumerate(reversed(lines)):
        bold = "bold" if ink == INK else "normal"
        at = 1 - (top - 0.07 - _LINE * place) / height
        figure.text(left / width, at, text, size=9 if ink == INK else 7.2, weight=bold, color=ink, va="bottom")
    success = figure.add_axes(
        (left / width, 1 - (top + _SUCCESS) / height, _PANEL / width, _SUCCESS / height),
    )
    low = top + _SUCCESS + _BETWEEN
    utility = figure.add_axes((left / width, 1 - (low + _UTILITY) / height, _PANEL / width, _UTILITY / height))
    for axes in (success, utility):
        _frame(axes, panel[0])
    for sweep, style in zip(panel, _STYLES, strict=False):
        _successes(success, panel[0], sweep, style)
    _worth(utility, panel[0], floor)
    success.set_ylim(0, 1)
    success.set_xticks(range(len(panel[0].steps)), [])
    utility.set_xticks(range(len(panel[0].steps)), [_tick(step) for step in panel[0].steps], rotation=90, size=7)
    for axes, label in ((success, "success"), (utility, f"test {panel[0].metric}")):
        axes.tick_params(axis="y", labelsize=8, labelleft=left == _LEFT)
        axes.set_ylabel(label if left == _LEFT else "", size=8)


def _frame(axes: Axes, sweep: Sweep) -> None:
    """The axis of steps, and where attacks stop and where that is guaranteed."""
    for step, ink in ((sweep.stops, _STOPPED), (sweep.guaranteed, _SURE)):
        if step is not None:
            axes.axvspan(sweep.steps.index(step) - 0.5, len(sweep.steps) - 0.5, color=ink, alpha=0.09, linewidth=0)
    axes.set_xlim(-0.5, len(sweep.steps) - 0.5)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def _successes(axes: Axes, first: Sweep, sweep: Sweep, style: str) -> None:
    """Every attack's success; of fresh randomness also intervals, the bound, and the public mean.

    The axis has the noises of the panel's first sweep; what another one has beside them is not drawn.
    """
    noises = [step.noise for step in first.steps]
    shown = [(noises.index(step.noise), step) for step in sweep.steps if step.noise in noises]
    places = [place for place, _ in shown]
    if not sweep.repeats:
        axes.step(places, [step.gamma for step in sweep.steps], color=INK, linewidth=1.6, where="mid", clip_on=False)
        floors = [0.0 if step.floor is None else step.floor for step in sweep.steps]
        axes.plot(places, floors, color=PALE, linewidth=1.6, clip_on=False)
        for place, step in enumerate(sweep.steps):
            bar = [step.best.low, step.best.high]
            axes.plot([place, place], bar, color=colour(step.best.attack), linewidth=2.4, alpha=0.35)
    curves: dict[str, list[tuple[int, float]]] = {}
    for place, step in shown:
        for tried in [step.best] if sweep.repeats else step.attacks:
            curves.setdefault("best" if sweep.repeats else tried.attack, []).append((place, tried.share))
    mark = "" if sweep.repeats else "o"
    for kind, points in curves.items():
        ink = colour(sweep.steps[0].best.attack if kind == "best" else kind)
        axes.plot(*zip(*points, strict=True), style, color=ink, linewidth=1.2, marker=mark, markersize=3, clip_on=False)


def _worth(axes: Axes, sweep: Sweep, floor: float) -> None:
    """Utility, a dot a seed and a line through the medians."""
    for place, step in enumerate(sweep.steps):
        axes.plot([place] * len(step.utilities), step.utilities, "o", color=PALE, markersize=2.5, clip_on=False)
    known = [(place, step.utility) for place, step in enumerate(sweep.steps) if step.utility is not None]
    if known:
        axes.plot(*zip(*known, strict=True), color=INK, linewidth=1.4)
    axes.set_ylim(floor, 1)


def _tick(step: Step) -> str:
    spent = "" if step.epsilon is None else f"  (ε {short(step.epsilon)})"
    return f"{number(step.noise) if step.noise else 'none'}{spent}"
