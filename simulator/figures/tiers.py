"""Who gets what back: what the adversary hears across, ways of unlearning down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palimpsest.simulator.figures.style import INK, PALE, RULE, bare, heading, heading_inches, name, save
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import BASELINES, label_of, reconstructions

TIERS: Mapping[str, str] = {
    "releases": "eavesdropper:\nreleases",
    "broadcasts": "eavesdropper:\nall broadcasts",
    "aggregate": "server:\nsums of cohorts",
    "updates": "server:\nevery message",
}
_COLUMN, _ROW, _LEFT = 1.75, 0.62, 1.9


@dataclass(frozen=True)
class Cell:
    """The best attack of one tier after one way of unlearning.

    Attributes:
        cosine: median centred cosine similarity; over several seeds, their median.
        psnr: median in dB; None where records are no images.
    """

    attack: str
    cosine: float
    psnr: float | None


def cells(arms: Sequence[ArmResult]) -> dict[tuple[str, str], Cell]:
    """The best attack by label of the unlearning and what the adversary sees."""
    groups: dict[tuple[str, str], list[ArmResult]] = {}
    for arm in arms:
        sees = str(arm.conditions.get("sees", "releases"))
        groups.setdefault((label_of(arm, arms), sees), []).append(arm)
    best = {key: _best(arms_of) for key, arms_of in groups.items()}
    return {key: cell for key, cell in best.items() if cell is not None}


def tiers(run: RunFiles) -> Path | None:
    """A table of the best attack's median PSNR and centred cosine, shaded by the cosine."""
    by_cell = cells(run.arms)
    columns = [tier for tier in TIERS if any(sees == tier for _, sees in by_cell)]
    if len(columns) < 2:
        return None
    rows = list(dict.fromkeys(label for label, _ in by_cell))
    title = _title(by_cell, columns)
    detail = (
        "Best attack of each adversary: median PSNR of reconstruction and deleted record, and below it the median "
        "centred cosine similarity (0: the public mean, 1: the record) and the attack. Empty: ruled out."
    )
    width = max(5.6, _LEFT + _COLUMN * len(columns) + 0.2)
    head = heading_inches(width, title, detail)
    height = head + 0.5 + _ROW * len(rows) + 0.15
    figure = Figure(figsize=(width, height))
    heading(figure, title, detail)
    axes = figure.add_axes((0, 0, 1, (height - head) / height))
    axes.set_xlim(0, width)
    axes.set_ylim(height - head, 0)
    bare(axes)
    for i, tier in enumerate(columns):
        axes.text(_LEFT + _COLUMN * (i + 0.5), 0.24, TIERS[tier], size=8.5, weight="bold", ha="center", va="center")
    for j, label in enumerate(rows):
        top = 0.5 + _ROW * j
        axes.text(0.12, top + _ROW / 2, label, size=8.5, va="center")
        for i, tier in enumerate(columns):
            _draw(axes, by_cell.get((label, tier)), _LEFT + _COLUMN * i, top)
    return save(figure, run.directory.figure("tiers"))


def _title(found: Mapping[tuple[str, str], Cell], columns: Sequence[str]) -> list[str]:
    """The most that each adversary gets, over all ways of unlearning."""
    best = {tier: max(cell.cosine for (_, sees), cell in found.items() if sees == tier) for tier in columns}
    said = ", ".join(f"{value:.2f} who hears {tier}" for tier, value in best.items())
    top = max(best, key=lambda tier: best[tier])
    return [f"Centred cosine of at most {said}", f"At most {best[top]:.2f} is got back by who hears {top}"]


def _draw(axes: Axes, cell: Cell | None, left: float, top: float) -> None:
    """One field of the table, in inches from the left and the top."""
    middle = left + _COLUMN / 2
    axes.plot([left, left + _COLUMN], [top, top], color=RULE, linewidth=0.6)
    if cell is None:
        axes.text(middle, top + _ROW / 2, "–", color=PALE, ha="center", va="center")
        return
    right, bottom, strength = left + _COLUMN, top + _ROW, 0.75 * min(1.0, max(0.0, cell.cosine))
    axes.fill([left, right, right, left], [top, top, bottom, bottom], color=(0.84, 0.37, 0.0, strength), linewidth=0)
    shown = f"{cell.cosine:.2f}" if cell.psnr is None else f"{cell.psnr:.1f} dB"
    axes.text(middle, top + 0.22, shown, size=10, color=INK, ha="center", va="center")
    below = f"{cell.cosine:.2f}, {name(cell.attack)}"
    axes.text(middle, top + 0.44, below, size=7.5, color="#444444", ha="center", va="center")


def _best(arms: Sequence[ArmResult]) -> Cell | None:
    """Over seeds the medians of the attack whose median cosine is highest; None where nobody answered with records."""
    ranked = []
    for attack in dict.fromkeys(attack for arm in arms for attack in reconstructions(arm)):
        results = [reconstructions(arm)[attack] for arm in arms if attack in reconstructions(arm)]
        ratios = [ratio for result in results if (ratio := result.figure("psnr_median")) is not None]
        cosine = float(np.median([result.cosine_centred_median for result in results]))
        if attack not in BASELINES:
            ranked.append(Cell(attack, cosine, float(np.median(ratios)) if ratios else None))
    return max(ranked, key=lambda cell: cell.cosine, default=None)
