"""One arm in one small picture: deleted records and what came back, how alike they are, and the server's life."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from palimpsest.simulator.figures.gallery import choose
from palimpsest.simulator.figures.style import INK, PALE, RULE, STYLE, bare, colour, name
from palimpsest.simulator.results.arm_files import ArmFiles
from palimpsest.simulator.results.schema import ArmResult, Round
from palimpsest.simulator.results.verdicts import leading, reconstructions

_SHOWN = 8
_DPI = 100


def arm_figure(files: ArmFiles, arm: ArmResult, path: Path) -> Path | None:
    """Draw an arm in about a tenth of a second; None where it has nothing to show.

    Args:
        files: of the arm.
        arm: its results.
        path: of the figure.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 2.4), dpi=_DPI)
        panels = [
            _records(figure, files, arm, (0.01, 0.06, 0.4, 0.78)),
            _likeness(figure, files, arm, (0.47, 0.2, 0.2, 0.64)),
            _life(figure, files, arm, (0.76, 0.2, 0.22, 0.64)),
        ]
        if not any(panels):
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        FigureCanvasAgg(figure)
        figure.savefig(path)
    return path


_Place = tuple[float, float, float, float]


def _records(figure: Figure, files: ArmFiles, arm: ArmResult, place: _Place) -> bool:
    """Deleted records above what the best attack made of them: images, or a table's values as shades."""
    truth, led = files.truth(), leading(arm)
    answered = files.reconstructions()
    if truth is None or led is None or led[0] not in answered:
        return False
    chosen = choose(truth, len(arm.data.class_names))[:_SHOWN]
    guess = answered[led[0]]
    if len(guess.x) != len(truth.x):
        return False
    left, bottom, width, height = place
    side = width / _SHOWN
    for line, (word, rows) in enumerate((("deleted", truth.x[chosen]), (name(led[0]), guess.x[chosen]))):
        top = bottom + (1 - line) * height / 2
        ink = INK if line == 0 else colour(led[0])
        figure.text(left, top + height / 2 - 0.02, word, size=8, va="bottom", color=ink)
        for column, record in enumerate(rows):
            axes = figure.add_axes((left + column * side, top + 0.02, side * 0.94, height / 2 - 0.06))
            _shade(axes, record, arm.data.shape)
    return True


def _shade(axes: Axes, record: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    bare(axes)
    if len(shape) == 3:
        image = np.clip(np.moveaxis(record.reshape(shape), 0, -1), 0.0, 1.0)
        axes.imshow(image[..., 0] if shape[0] == 1 else image, cmap="gray_r", vmin=0.0, vmax=1.0)
        return
    across = int(np.ceil(np.sqrt(record.size)))
    padded = np.full(across * int(np.ceil(record.size / across)), np.nan)
    padded[: record.size] = record
    axes.imshow(padded.reshape(-1, across), cmap="RdBu_r", vmin=-3.0, vmax=3.0)


def _likeness(figure: Figure, files: ArmFiles, arm: ArmResult, place: _Place) -> bool:
    """Share of records by the centred cosine at most, a curve an attack."""
    scores, attacks = files.scores(), reconstructions(arm)
    if scores is None or not attacks or "cosine_centred" not in scores:
        return False
    axes = figure.add_axes(place)
    for attack in attacks:
        values = np.sort(scores.loc[scores["attack"] == attack, "cosine_centred"].dropna())
        if len(values):
            axes.step(values, np.arange(1, len(values) + 1) / len(values), where="post", color=colour(attack))
    for line, attack in enumerate(list(attacks)[:5]):
        where, ink = 0.97 - 0.14 * line, colour(attack)
        axes.text(0.02, where, name(attack), transform=axes.transAxes, color=ink, size=7, va="top")
    axes.set(xlim=(-0.5, 1.02), ylim=(0.0, 1.02))
    axes.set_title("share of records, by centred cosine", size=8, loc="left")
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    return True


def _life(figure: Figure, files: ArmFiles, arm: ArmResult, place: _Place) -> bool:
    """Utility of each model of the server, each departure marked; of alternatives, that of the shared training."""
    rounds = [made for made in files.rounds() if made.utility is not None and made.phase != "working"]
    if len(rounds) < 2:
        return False
    axes = figure.add_axes(place)
    axes.plot([_step(made) for made in rounds], [made.utility or 0.0 for made in rounds], color=INK, linewidth=1.4)
    numbers = [made.request for made in rounds]
    for made, before in zip(rounds[1:], numbers, strict=False):
        if made.request is not None and made.request != before:
            axes.axvline(_step(made), color=PALE, linewidth=0.8, linestyle=":")
    unit = arm.utility.unit if arm.utility is not None else "utility"
    axes.set_title(f"{unit} by model; dotted: a request", size=8, loc="left")
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    return True


def _step(made: Round) -> int:
    return made.round if made.step is None else made.step
