"""How an attack's success depends on what the adversary knows, and on what the server does: a panel for each axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palimpsest.simulator.figures.style import PALE, RULE, colour, heading, heading_inches, name, save, spread
from palimpsest.simulator.results.evidence import centred_interval_of
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import BASELINES, reconstructions

AXES: Mapping[str, str] = {
    "public_records": "public sample, records",
    "public_classes": "classes in the public sample",
    "public_noise": "noise on the public sample",
    "public_source": "public sample comes from",
    "n_factor": "idea of n, of the truth",
    "round_to": "bits of the parameters read",
    "lambda": "lambda",
    "records_per_request": "records deleted at once",
    "rounds_between": "unseen rounds before the unlearning",
    "missed_rounds": "rounds of training not heard",
    "coupling": "randomness of the retraining",
    "gradient_norm": "gradient norm where training stops",
    "rounds": "rounds of training",
    "local_epochs": "local epochs a round",
}
"""Conditions of an arm (see ``simulator.grants.conditions``) that are an axis where an arm varies in them alone."""

_ORDER = ("same-noise", "same-coins", "same-order", "reshuffled", "independent")
_FEWEST = 3
"""Values of a condition, all else equal, that make a panel; two do where the condition is a place of origin."""
_NAMED = ("model", "algorithm", "unlearning", "coupling", "defense")
"""What of a setting is written beside its line, where several are in one panel, or above them."""
_STYLES = ("-", "--", ":", "-.")
_COLUMNS = 3


@dataclass(frozen=True)
class Curve:
    """One attack along one axis, all else equal.

    Attributes:
        setting: what the line's arms have in common: condition -> value.
        values: of the axis, in order.
        medians, low, high: ``[values]`` centred cosine, and its 95 % interval; over several seeds, the median of each.
    """

    attack: str
    setting: Mapping[str, Any]
    values: tuple[Any, ...]
    medians: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def lines(arms: Sequence[ArmResult], axis: str) -> list[Curve]:
    """Every attack along an axis, for each choice of all else under which the axis takes three values or more."""
    groups: dict[tuple[tuple[str, str], ...], dict[Any, list[ArmResult]]] = {}
    settings: dict[tuple[tuple[str, str], ...], Mapping[str, Any]] = {}
    for arm in arms:
        setting = _setting(arm)
        if axis in setting:
            rest = {key: value for key, value in setting.items() if key != axis}
            key = tuple(sorted((name, repr(value)) for name, value in rest.items()))
            settings[key] = rest
            groups.setdefault(key, {}).setdefault(setting[axis], []).append(arm)
    return [
        _line(attack, settings[key], by_value)
        for key, by_value in groups.items()
        for attack in dict.fromkeys(a for some in by_value.values() for arm in some for a in reconstructions(arm))
        if attack not in BASELINES and len(_having(by_value, attack)) >= (2 if axis == "public_source" else _FEWEST)
    ]


def knowledge(run: RunFiles) -> Path | None:
    """Median centred cosine of every attack against each condition that varies by itself."""
    panels = {axis: axis_lines for axis in AXES if (axis_lines := lines(run.arms, axis))}
    if not panels:
        return None
    seeds = len({arm.seed for arm in run.arms})
    title = _title(panels)
    detail = (
        "Median centred cosine similarity of reconstruction and deleted record, with its 95 % interval; all else "
        "is equal along a line. 0 is what the public mean scores, 1 the record itself."
        + (f" Medians over {seeds} seeds." if seeds > 1 else "")
    )
    columns = min(_COLUMNS, len(panels))
    column, row = 3.35, 2.3
    width = max(5.2, 0.35 + columns * column)
    head, rows = heading_inches(width, title, detail), -(-len(panels) // columns)
    height = head + rows * row
    figure = Figure(figsize=(width, height))
    heading(figure, title, detail)
    for place, (axis, axis_lines) in enumerate(panels.items()):
        left, bottom = 0.45 + column * (place % columns), (rows - 1 - place // columns) * row + 0.5
        axes = figure.add_axes((left / width, bottom / height, (column - 1.3) / width, (row - 1.02) / height))
        _panel(
            axes,
            axis,
            axis_lines,
            min([0.0, *(value for own in panels.values() for line in own for value in line.low)]),
        )
    return save(figure, run.directory.figure("knowledge"))


def _title(panels: Mapping[str, Sequence[Curve]]) -> list[str]:
    """The line whose attack depends most on its axis, with its ends."""
    axis, line = max(
        ((axis, line) for axis, found in panels.items() for line in found),
        key=lambda one: max(one[1].medians) - min(one[1].medians),
    )
    low, high = min(line.medians), max(line.medians)
    said = f"{name(line.attack)} has a centred cosine of {low:.2f} to {high:.2f}"
    return [f"{said}, depending on: {AXES[axis]}", said]


def _setting(arm: ArmResult) -> dict[str, Any]:
    """Everything that tells an arm from another, but for variant and seed."""
    method = {key: value for key, value in arm.unlearning.to_json().items() if key != "coupling"}
    same = {"data": arm.data.source, "deletion": arm.deletion.level, "defense": arm.defense.to_json()}
    return {**arm.conditions, **same, "unlearning": method}


def _having(by_value: Mapping[Any, Sequence[ArmResult]], attack: str) -> list[Any]:
    """The values of an axis at which an attack was run, in order."""
    return sorted(
        (value for value, arms in by_value.items() if any(attack in reconstructions(a) for a in arms)), key=_rank
    )


def _rank(value: Any) -> tuple[float, str]:
    """Couplings from the closest, the data's own sample first, exact parameters (0 bits) last; numbers by size."""
    if isinstance(value, str):
        return (float(_ORDER.index(value)) if value in _ORDER else -1.0 if not value else 9.0, value)
    return float(value), ""


def _line(attack: str, setting: Mapping[str, Any], by_value: Mapping[Any, Sequence[ArmResult]]) -> Curve:
    values = _having(by_value, attack)
    rows = []
    for value in values:
        results = [reconstructions(arm)[attack] for arm in by_value[value] if attack in reconstructions(arm)]
        ends = [(f.cosine_centred_median, *(centred_interval_of(f) or [f.cosine_centred_median] * 2)) for f in results]
        rows.append(tuple(float(middle) for middle in np.median(np.array(ends), axis=0)))
    medians, low, high = zip(*rows, strict=True)
    return Curve(attack, setting, tuple(values), medians, low, high)


def _panel(axes: Axes, axis: str, panel_lines: Sequence[Curve], lowest: float) -> None:
    """Lines over evenly spaced values, named at their right ends; the axis begins at ``lowest`` in every panel."""
    values = sorted({value for line in panel_lines for value in line.values}, key=_rank)
    if axis == "round_to" and 0 in values:
        values = [*(value for value in values if value), 0]
    place = {value: position for position, value in enumerate(values)}
    models = list(dict.fromkeys(_told(line, panel_lines) for line in panel_lines))
    for line in panel_lines:
        order = sorted(range(len(line.values)), key=lambda i: place[line.values[i]])
        at = [place[line.values[i]] for i in order]
        ink, style = colour(line.attack), _STYLES[models.index(_told(line, panel_lines)) % len(_STYLES)]
        for i, x in zip(order, at, strict=True):
            axes.plot([x, x], [line.low[i], line.high[i]], color=ink, linewidth=2.4, alpha=0.35, clip_on=False)
        axes.plot(at, [line.medians[i] for i in order], f"o{style}", color=ink, markersize=4, clip_on=False)
    axes.set_ylim(max(-1.0, lowest - 0.02), 1.0)
    axes.set_xlim(-0.2, len(values) - 0.8)
    axes.set_xticks(range(len(values)), [_tick(axis, value) for value in values], size=7.5)
    axes.set_yticks([0, 0.5, 1])
    axes.axhline(0, color=PALE, linewidth=0.8, zorder=0)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(AXES[axis], size=9, weight="bold", loc="left", pad=15)
    axes.text(0, 1.04, _shared(panel_lines), transform=axes.transAxes, size=7.5, color=PALE)
    ranked = sorted(panel_lines, key=lambda line: _last(line, place))
    ends = [_last(line, place) for line in ranked]
    for line, end in zip(ranked, spread(ends, 0.1 * (1.0 - min(0.0, lowest))), strict=True):
        told = _told(line, panel_lines)
        text = f"{name(line.attack)}, {told}" if told else name(line.attack)
        tip = (len(values) - 1, end)
        axes.annotate(text, tip, (9, 0), textcoords="offset points", color=colour(line.attack), size=8, va="center")


def _last(line: Curve, place: Mapping[Any, int]) -> float:
    """A line's height at its right end."""
    return line.medians[max(range(len(line.values)), key=lambda i: place[line.values[i]])]


def _told(line: Curve, panel_lines: Sequence[Curve]) -> str:
    """What tells a line's setting from the others' of a panel, in a few words."""
    return ", ".join(_word(line.setting[key]) for key in _NAMED if _differs(panel_lines, key) and key in line.setting)


def _shared(panel_lines: Sequence[Curve]) -> str:
    """What the lines of a panel have in common, in a few words."""
    setting = panel_lines[0].setting
    return ", ".join(_word(setting[key]) for key in _NAMED[:-1] if not _differs(panel_lines, key) and setting.get(key))


def _differs(panel_lines: Sequence[Curve], key: str) -> bool:
    return len({repr(line.setting.get(key)) for line in panel_lines}) > 1


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("method", value.get("kind")))
    return str(value)


def _tick(axis: str, value: Any) -> str:
    if axis == "public_source":
        return "its own" if not value else Path(str(value)).stem.removeprefix("synthetic:").replace(" ", "\n")
    if axis == "round_to" and value == 0:
        return "exact"
    if axis == "coupling":
        return str(value).replace("-", "\n")
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
