"""Single records, deleted and reconstructed, beside one another: images, or the values of a table's columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from palimpsest.simulator.figures.style import (
    INK,
    RULE,
    Title,
    bare,
    colour,
    heading,
    heading_inches,
    name,
    save,
)
from palimpsest.simulator.figures.titles import title_of
from palimpsest.simulator.results.arm_files import Records
from palimpsest.simulator.results.evidence import FLOORS
from palimpsest.simulator.results.run_directory import RunFiles, SettingOfArms
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import BASELINES, leading, reconstructions
from palimpsest.simulator.world.assignment import assigned

COLUMNS = 10
ROWS = 20
"""Beyond so many rows, baselines are left out."""


@dataclass(frozen=True)
class Row:
    """What one attack answered under one way of unlearning.

    Attributes:
        x: ``[columns, d]`` in the columns' order.
        caption: ``[columns]`` the centred cosine, or that there was no signal; empty where a score is missing.
    """

    setting: str
    attack: str
    x: NDArray[np.float64]
    caption: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """The columns, by choice of ``choose``, the rows, and the settings that left nothing to read."""

    x: NDArray[np.float64]
    rows: tuple[Row, ...]
    silent: tuple[str, ...] = ()

    def best(self, settings: Sequence[SettingOfArms]) -> "Gallery":
        """Only the attack that got most back under each setting, and the floor that it is seen beside."""
        wanted = {(setting.label, led[0]) for setting in settings if (led := leading(setting.arms[0])) is not None}
        floors = {"public-draw"} if any(setting.arms[0].deletion.records > 1 for setting in settings) else set()
        wanted |= {(setting.label, floor) for setting in settings for floor in floors}
        return replace(self, rows=tuple(row for row in self.rows if (row.setting, row.attack) in wanted))


def choose(truth: Records, classes: int) -> NDArray[np.int64]:
    """Rows to show, at most ``COLUMNS``, chosen without looking at how well they were reconstructed.

    The first deleted record of each class, in the order of classes; then, or for regression, the first ones.
    """
    first = [int(np.flatnonzero(truth.y == label)[0]) for label in range(classes) if (truth.y == label).any()]
    rest = [row for row in range(len(truth.y)) if row not in first]
    return np.array((first[:COLUMNS] + rest)[:COLUMNS], dtype=np.int64)


def collect(run: RunFiles, settings: Sequence[SettingOfArms]) -> Gallery | None:
    """Read the first arm of each setting; None where no records were kept.

    The records to show are those of the first setting. Settings that did not delete all of them are left out.
    """
    truth = run.files(settings[0].arms[0]).truth()
    if truth is None or len(truth.x) == 0:
        return None
    chosen = truth.rows(choose(truth, len(settings[0].arms[0].data.class_names)))
    rows: list[Row] = []
    silent: list[str] = []
    for setting in settings:
        arm = setting.arms[0]
        records, led = run.files(arm).truth(), leading(arm)
        picked = None if records is None else _places(records, chosen)
        if records is None or picked is None:
            continue
        if led is not None and led[1] == "silent":
            silent.append(setting.label)
        rows += _rows(run, setting.label, arm, records, picked)
    rows = [row for row in rows if row.attack == "average" or row.setting not in silent]
    means = [row for row in rows if row.attack == "average"]
    others = [row for row in rows if row.attack != "average"]
    if len(others) > ROWS:
        others = [row for row in others if row.attack not in BASELINES or row.attack in FLOORS]
    return Gallery(chosen.x, tuple(means[:1] + others[:ROWS]), tuple(silent))


def _places(deleted: Records, chosen: Records) -> NDArray[np.int64] | None:
    """Where an arm's deleted records hold the chosen ones; None where one is missing.

    Records are compared, not cases: an arm that deletes in batches has other cases than one that deletes one by one.
    """
    rows: dict[tuple[bytes, float], list[int]] = {}
    for row, (x, y) in enumerate(zip(deleted.x, deleted.y, strict=True)):
        rows.setdefault((x.tobytes(), float(y)), []).append(row)
    places = []
    for x, y in zip(chosen.x, chosen.y, strict=True):
        left = rows.get((x.tobytes(), float(y)))
        if not left:
            return None
        places.append(left.pop(0))
    return np.array(places, dtype=np.int64)


def _rows(run: RunFiles, label: str, arm: ArmResult, truth: Records, picked: NDArray[np.int64]) -> list[Row]:
    scores = run.scores(arm)
    answers = run.files(arm).reconstructions()
    return [
        Row(label, attack, _matched(answers[attack], truth, picked), _captions(scores, attack, truth, picked))
        for attack in reconstructions(arm)
        if attack in answers
    ]


def _matched(answer: Records, truth: Records, picked: NDArray[np.int64]) -> NDArray[np.float64]:
    """The answer to each picked record; within a deletion of several, by the best assignment of cosines."""
    matched = []
    for row in picked:
        wanted, given = truth.of_case(int(truth.case[row])), answer.of_case(int(truth.case[row]))
        order = assigned(_cosine_table(truth.x[wanted], answer.x[given]))
        matched.append(answer.x[given[order[list(wanted).index(row)]]])
    return np.asarray(matched, dtype=np.float64)


def _cosine_table(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None, :]
    table: NDArray[np.float64] = a @ b.T / np.maximum(norms, np.finfo(np.float64).tiny)
    return table


def _captions(scores: pd.DataFrame, attack: str, truth: Records, picked: NDArray[np.int64]) -> tuple[str, ...]:
    """From the scores: a case's targets are numbered in the order of the truth file."""
    rows_of = scores[scores["attack"] == attack].set_index(["case", "target"])
    captions = []
    for row in picked:
        case = int(truth.case[row])
        key = (case, list(truth.of_case(case)).index(row))
        if key not in rows_of.index:
            captions.append("")
        else:
            cosine = float(rows_of["cosine_centred"].loc[key])
            captions.append("no signal" if rows_of["no_signal"].loc[key] else f"{cosine:.2f}")
    return tuple(captions)


# --- drawing ---------------------------------------------------------------------------------------------------------

_CELL, _GAP, _LEFT, _UNDER, _BETWEEN = 0.72, 0.06, 1.35, 0.17, 0.34
"""Inches: side of an image, between images, left of them, below them for the cosine, above a way of unlearning."""
_NARROWEST = 7.4
"""Inches: room for the longest sentence over a row of images, however few these are."""


def draw_images(shown: Gallery, shape: Sequence[int], title: Title, detail: str) -> Figure:
    """Rows of images: the deleted records, the public mean, then every attack under every way of unlearning."""
    width = max(_LEFT + len(shown.x) * (_CELL + _GAP) + 0.1, _NARROWEST)
    settings = list(dict.fromkeys(row.setting for row in shown.rows if row.attack != "average"))
    head = heading_inches(width, title, detail) + 0.1
    height = head + (1 + len(shown.rows)) * (_CELL + _UNDER) + (len(settings) + len(shown.silent)) * _BETWEEN
    figure = Figure(figsize=(width, height))
    heading(figure, title, detail)
    top = _strip(figure, "deleted record", shown.x, shape, head, INK)
    for row in shown.rows:
        if row.attack == "average":
            top = _strip(figure, name(row.attack), row.x, shape, top, colour(row.attack), row.caption)
    for setting in settings:
        top += _BETWEEN
        _caption(figure, setting, top - 0.06)
        for row in shown.rows:
            if row.setting == setting and row.attack != "average":
                top = _strip(figure, name(row.attack), row.x, shape, top, colour(row.attack), row.caption)
    _unchanged(figure, shown.silent, top)
    return figure


def draw_answers(answers: Mapping[str, NDArray[np.float64]], shape: Sequence[int]) -> Figure:
    """What attacks answered, the first ``COLUMNS`` records of each, without any ground truth."""
    count = min(COLUMNS, max(len(x) for x in answers.values()))
    title = "What the eavesdropper makes of the deletions"
    width = max(_LEFT + count * (_CELL + _GAP) + 0.1, 5.0)
    top = heading_inches(width, title)
    figure = Figure(figsize=(width, top + len(answers) * (_CELL + _GAP) + 0.1))
    heading(figure, title)
    for attack, x in answers.items():
        top = _strip(figure, name(attack), x[:count], shape, top, colour(attack))
    return figure


def _unchanged(figure: Figure, silent: Sequence[str], top: float) -> None:
    """A line for each setting that released the same model again."""
    for setting in silent:
        top += _BETWEEN
        _caption(
            figure,
            f"{setting}: the released model did not change, so every attack is left with the public mean",
            top - 0.06,
        )


def _strip(
    figure: Figure,
    label: str,
    x: NDArray[np.float64],
    shape: Sequence[int],
    top: float,
    ink: str,
    captions: Sequence[str] = (),
) -> float:
    """Draw one row of images ``top`` inches from the top, captions under them; return where the next begins."""
    width, height = figure.get_size_inches()
    wide = len(x) * (_CELL + _GAP)
    axes = figure.add_axes((_LEFT / width, 1 - (top + _CELL) / height, wide / width, _CELL / height))
    for column, record in enumerate(x):
        left = column * (_CELL + _GAP)
        place = (left, left + _CELL, 0.0, _CELL)
        axes.imshow(image_of(record, shape), cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=place)
        if captions:
            axes.text(left + _CELL / 2, -0.03, captions[column], ha="center", va="top", size=7.5)
    axes.set(xlim=(0.0, wide), ylim=(0.0, _CELL), aspect="auto")
    bare(axes)
    middle = 1 - (top + _CELL / 2) / height
    figure.text((_LEFT - 0.1) / width, middle, label, ha="right", va="center", color=ink, size=9, weight="bold")
    return top + _CELL + (_UNDER if captions else _GAP)


def image_of(record: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """``[d] -> [H, W]`` or ``[H, W, 3]``, cut to [0, 1]."""
    image = np.moveaxis(np.clip(record, 0.0, 1.0).reshape(tuple(shape)), 0, -1)
    return image[..., 0] if image.shape[-1] == 1 else image[..., :3]


def _caption(figure: Figure, text: str, bottom: float) -> None:
    """The name of a way of unlearning, over a rule, ``bottom`` inches from the top."""
    width, height = figure.get_size_inches()
    figure.text(0.12 / width, 1 - (bottom - 0.03) / height, text, size=9, va="bottom")
    ends = ([0.12 / width, 1 - 0.1 / width], [1 - bottom / height] * 2)
    figure.add_artist(Line2D(*ends, color=RULE, linewidth=0.8))


def draw_values(shown: Gallery, features: Sequence[str], title: Title, detail: str) -> Figure:
    """A few records of a table: each column's deleted value and what the best attack of each setting answered."""
    rows = [row for row in shown.rows if row.attack != "average"]
    records = min(4, len(shown.x))
    columns = np.sort(np.argsort(-np.abs(shown.x[:records]).mean(axis=0), kind="stable")[:14])
    left, tall = 0.35 + 0.075 * max(len(features[column]) for column in columns), 0.17 * len(columns) + 0.58
    width = max(left + records * 1.75 + 0.15, _NARROWEST)
    head = heading_inches(width, title, detail) + 0.1
    height = head + len(rows) * (tall + _BETWEEN) + len(shown.silent) * _BETWEEN + 0.1
    figure = Figure(figsize=(width, height))
    heading(figure, title, detail)
    span = 1.1 * float(np.abs(shown.x[:records][:, columns]).max())
    for line, row in enumerate(rows):
        top = head + line * (tall + _BETWEEN) + _BETWEEN
        _caption(figure, f"{name(row.attack)} after {row.setting}" if row.setting else name(row.attack), top - 0.06)
        for record in range(records):
            place = (
                (left + record * 1.75) / width,
                1 - (top + tall - 0.36) / height,
                1.6 / width,
                (tall - 0.56) / height,
            )
            axes = figure.add_axes(place)
            _values(axes, shown.x[record, columns], row.x[record, columns], span, colour(row.attack))
            axes.set_title(_worded(row.caption[record]), size=8, loc="left", pad=2)
            if record == 0:
                axes.set_yticks(range(len(columns)), [features[c] for c in columns], size=7.5)
                axes.set_xlabel("standardised value", size=7.5, labelpad=1)
    _unchanged(figure, shown.silent, head + len(rows) * (tall + _BETWEEN))
    return figure


def _worded(caption: str) -> str:
    return caption if caption in ("", "no signal") else f"centred cosine {caption}"


def _values(axes: Axes, true: NDArray[np.float64], guess: NDArray[np.float64], span: float, ink: str) -> None:
    """A ring for the deleted value, a dot for the answer, a line for the error; far answers stop at the axis' end."""
    place = np.arange(len(true))
    shown = np.clip(guess, -span, span)
    axes.axvline(0, color=RULE, linewidth=0.8, zorder=0)
    axes.hlines(place, true, shown, color=ink, linewidth=1.2, alpha=0.5)
    axes.scatter(shown, place, s=16, color=ink, zorder=3, linewidths=0)
    axes.scatter(true, place, s=26, facecolors="none", edgecolors=INK, linewidths=1.0, zorder=4)
    axes.set_xlim(-span * 1.05, span * 1.05)
    axes.set_ylim(len(true) - 0.5, -0.5)
    axes.set_yticks([])
    axes.tick_params(length=2, labelsize=7)
    axes.spines["left"].set_visible(False)


def gallery(run: RunFiles, variant: str) -> Path | None:
    """Deleted records beside what each attack made of them, of the first seed."""
    settings = run.settings(variant)
    shown = collect(run, settings)
    if shown is None or not shown.rows:
        return None
    data = settings[0].arms[0].data
    title = title_of(run, settings, variant)
    if len(data.shape) == 3:
        way = "the first deleted record of each class" if data.class_names else "the first deleted records"
        detail = (
            f"{way[:1].upper()}{way[1:]}; under each answer its centred cosine similarity (0: the public mean); "
            "images cut to [0, 1]."
        )
        return save(draw_images(shown, data.shape, title, detail), run.directory.figure("gallery", variant))
    features = data.feature_names or [f"column {k}" for k in range(data.shape[0])]
    detail = "Rings: the deleted record. Dots: what the attack answered. The public mean is 0 in every column."
    figure = draw_values(shown.best(settings), features, title, detail)
    return save(figure, run.directory.figure("gallery", variant))
