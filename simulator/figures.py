"""The figures of a run, one function a figure, drawn from what it left on disk.

A figure that does not apply is not drawn. One colour an attack in every figure; titles state what was found, computed
from the run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from simulator.findings import BASELINES, Arm, finding, headline, metric, phrase_of, reconstructions
from simulator.forgetting_figure import forgetting
from simulator.gallery import collect, draw_images, draw_values
from simulator.inference_figures import inference
from simulator.knowledge_figure import knowledge
from simulator.price import price
from simulator.runfiles import RunFiles, Setting
from simulator.style import INK, PALE, RULE, STYLE, colour, heading, heading_inches, name, save, spread
from simulator.tradeoff import tradeoff


def draw_all(directory: Path) -> list[Path]:
    """Draw every figure that applies into ``figures/``; return their paths.

    Raises:
        RunFilesError: the directory holds no finished run.
    """
    run = RunFiles.open(directory)
    drawn: list[Path | None] = []
    with mpl.rc_context(STYLE):
        drawn += [summary(run), forgetting(run), inference(run), knowledge(run)]
        for variant in run.variants():
            drawn += [
                gallery(run, variant),
                cosine_cdf(run, variant),
                utility(run, variant),
                tradeoff(run, variant),
                price(run, variant),
            ]
    return [path for path in drawn if path is not None]


def gallery(run: RunFiles, variant: str) -> Path | None:
    """Deleted records beside what each attack made of them, of the first seed."""
    settings = run.settings(variant)
    shown = collect(run, settings)
    if shown is None or not shown.rows:
        return None
    data = settings[0].arms[0]["data"]
    title = _title(run, settings, variant)
    if len(data["shape"]) == 3:
        way = "the first deleted record of each class" if data.get("class_names") else "the first deleted records"
        detail = (
            f"{way[:1].upper()}{way[1:]}; under each answer its cosine similarity to the record; images cut to [0, 1]."
        )
        return save(draw_images(shown, data["shape"], title, detail), _path(run, "gallery", variant))
    features = data.get("feature_names") or [f"column {k}" for k in range(data["shape"][0])]
    detail = "Rings: the deleted record. Dots: what the attack answered. The public mean is 0 in every column."
    figure = draw_values(shown.best(settings), features, title, detail)
    return save(figure, _path(run, "gallery", variant))


def cosine_cdf(run: RunFiles, variant: str) -> Path | None:
    """Distribution of the cosine similarity, raw and centred, of every attack; one row a way of unlearning."""
    settings = [setting for setting in run.settings(variant) if _reconstructed(run, setting)]
    if not settings:
        return None
    title = _title(run, settings, variant)
    detail = (
        "Share of deleted records whose reconstruction is at most so similar: a curve further right has got more back."
    )
    width, row, label = 9.6, 1.72, 1.62
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
            _cumulative(axes, {str(key): rows[measure].to_numpy() for key, rows in scores.groupby("attack")})
            if line == len(settings) - 1:
                axes.set_xlabel(words)
            if side == 0:
                axes.set_ylabel("share")
    return save(figure, _path(run, "cosine-cdf", variant))


_MEASURES = {"cosine": "cosine similarity", "cosine_centred": "cosine similarity, centred by the public mean"}


def _cumulative(axes: Axes, values: dict[str, Any]) -> None:
    """Empirical distribution functions, named with their medians to the right of the panel, best on top."""
    ranked = sorted(values, key=lambda attack: -float(np.median(values[attack])))
    start = float(np.floor(min(0.0, *(np.min(each) for each in values.values())) * 5) / 5)
    for attack in ranked[::-1]:
        ordered = np.sort(values[attack])
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        thick = 1.4 if attack in BASELINES else 2.2
        axes.step(
            [start, *ordered, 1], [0, *share, 1], where="post", color=colour(attack), linewidth=thick, clip_on=False
        )
    for line, attack in enumerate(ranked):
        text = f"{name(attack)}  {np.median(values[attack]):.2f}"
        axes.text(1.04, 0.98 - 0.2 * line, text, transform=axes.transAxes, color=colour(attack), va="top", size=8)
    axes.set_xlim(start, 1.0)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def utility(run: RunFiles, variant: str) -> Path | None:
    """Utility of every release of the training, and to the right of it what is left after each way of unlearning."""
    settings = run.settings(variant)
    curves = {label: lines for label, lines in _curves(run, settings).items() if len(lines[0]) > 1}
    if not curves:
        return None
    kind = metric(settings[0].arms[0])
    after = {setting.label: _median(setting.arms, "unlearned") for setting in settings}
    before = _median(settings[0].arms, "trained")
    title = f"Test {kind} reaches {before:.2f}" if before is not None else f"Test {kind} in training"
    left = {label: value for label, value in after.items() if value is not None}
    if before is not None and left:
        worst = min(left, key=lambda label: left[label])
        lost = before - left[worst]
        title += f"; {worst} costs {lost:.2f}" if lost >= 0.01 else "; no way of unlearning costs a hundredth"
    title = f"{variant}: {title[:1].lower()}{title[1:]}" if variant else title
    head = heading_inches(7.6, title, _seeds(settings)) + 0.15
    height = head + 3.3
    figure = Figure(figsize=(7.6, height))
    heading(figure, title, _seeds(settings))
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
    return save(figure, _path(run, "utility", variant))


def _curves(run: RunFiles, settings: Sequence[Setting]) -> dict[str, list[list[tuple[int, float]]]]:
    """Distinct trainings: (round, utility) lines by defense; ways of unlearning share theirs."""
    curves: dict[str, list[list[tuple[int, float]]]] = {}
    for setting in settings:
        for arm in setting.arms:
            line = [(release["round"], release["utility"]) for release in run.rounds(arm) if _charted(release)]
            known = curves.setdefault(setting.label.partition(" under ")[2] or "no defense", [])
            if line and line not in known:
                known.append(line)
    return {label: lines for label, lines in curves.items() if lines}


def _charted(release: dict[str, Any]) -> bool:
    """Whether a release is a round's outcome with a utility: no working model, no value that is undefined."""
    return release["phase"] != "working" and bool(np.isfinite(release.get("utility", np.nan)))


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


def summary(run: RunFiles) -> Path | None:
    """The answer at a glance: centred cosine of every attack under every way of unlearning, median and p10 to p90."""
    settings = [setting for variant in run.variants() for setting in run.settings(variant)]
    settings = [setting for setting in settings if _reconstructed(run, setting)]
    if not settings:
        return None
    title = headline([arm for setting in settings for arm in setting.arms])
    detail = (
        "Median centred cosine similarity of reconstruction and deleted record, and its 10th to 90th percentile. "
        f"0 is what the public mean scores, 1 the record itself. {_seeds(settings)}"
    )
    width, line, between = 8.6, 0.2, 0.22
    attacks = [[a for a in reconstructions(setting.arms[0]) if a != "average"] for setting in settings]
    tall = sum(len(each) * line + between for each in attacks)
    head = heading_inches(width, title, detail) + 0.25
    height = head + tall + 0.55
    figure = Figure(figsize=(width, height))
    heading(figure, title, detail)
    axes = figure.add_axes((2.6 / width, 0.5 / height, (width - 2.6 - 2.25) / width, tall / height))
    place, lowest = 0.0, 0.0
    for setting, own in zip(settings, attacks, strict=True):
        lowest = min(lowest, _group(axes, run, setting, own, place, line))
        place += len(own) * line + between
    axes.set_ylim(place - between / 2, -line / 2 - between / 2)
    axes.set_xlim(max(-1.0, lowest - 0.05), 1.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=PALE, linewidth=1.0, zorder=0)
    axes.axvline(1, color=RULE, linewidth=1.0, zorder=0)
    axes.set_xlabel("cosine similarity, centred by the public mean")
    return save(figure, _path(run, "summary", ""))


def _group(axes: Axes, run: RunFiles, setting: Setting, attacks: Sequence[str], place: float, line: float) -> float:
    """Dots and ranges of one way of unlearning; return the lowest value drawn."""
    scores = run.scores(*setting.arms)
    wide = axes.get_yaxis_transform()
    middle = place + (len(attacks) - 1) * line / 2
    label = f"{setting.variant}\n{setting.label}" if len(run.variants()) > 1 else setting.label
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


# --- words -----------------------------------------------------------------------------------------------------------


def _title(run: RunFiles, settings: Sequence[Setting], variant: str) -> str:
    text = finding([(phrase_of(setting.arms[0], run.arms), setting.arms) for setting in settings])
    return f"{variant}: {text[:1].lower()}{text[1:]}" if variant else text


def _reconstructed(run: RunFiles, setting: Setting) -> bool:
    """Whether there are reconstructions to draw, and not of baselines alone."""
    return bool(reconstructions(setting.arms[0])) and len(run.scores(*setting.arms)) > 0


def _seeds(settings: Sequence[Setting]) -> str:
    count = len(settings[0].arms)
    return f"{count} seeds together." if count > 1 else ""


def _median(arms: Sequence[Arm], key: str) -> float | None:
    values = [value for arm in arms if (value := (arm.get("utility") or {}).get(key)) is not None]
    return float(np.median(values)) if values else None


def _path(run: RunFiles, figure: str, variant: str) -> Path:
    return run.directory / "figures" / (f"{figure}-{variant}.png" if variant else f"{figure}.png")
