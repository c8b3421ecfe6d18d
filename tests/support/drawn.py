"""What a reader of a figure would stumble over: texts that leave the canvas, or lie on one another."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

_SLACK = 1.5
"""Pixels by which texts may touch: extents include room for letters that are not there."""


def figures_of(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Every figure that is saved from now on, by the name of its file; it is saved as ever."""
    found: dict[str, Figure] = {}
    saving = Figure.savefig

    def kept(figure: Figure, path: Any, **about: Any) -> None:
        found[Path(path).name.removeprefix(".").partition(".png")[0]] = figure
        saving(figure, path, **about)

    monkeypatch.setattr(Figure, "savefig", kept)
    return found


def faults(figure: Figure) -> list[str]:
    """A line for each text that is cut off, and for each two that overlap."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, page = canvas.get_renderer(), figure.bbox
    shown = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in _texts(figure)]
    cut = [f"cut off: {said!r}" for said, box in shown if not _inside(box, page)]
    crossed = [
        f"overlap: {one!r} and {other!r}"
        for (one, box), (other, second) in combinations(shown, 2)
        if _crossing(box, second)
    ]
    return cut + crossed


def _texts(figure: Figure) -> Iterator[Text]:
    """Texts that are drawn; labels of ticks outside their axis are not."""
    ticks: set[int] = set()
    for axis in figure.findobj(Axis):
        assert isinstance(axis, Axis)
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not axis.get_visible() or not low <= tick.get_loc() <= high:
                ticks |= {id(tick.label1), id(tick.label2)}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in ticks:
            yield text


def _inside(box: Bbox, page: Bbox) -> bool:
    return (
        box.x0 >= page.x0 - _SLACK
        and box.y0 >= page.y0 - _SLACK
        and box.x1 <= page.x1 + _SLACK
        and box.y1 <= page.y1 + _SLACK
    )


def _crossing(one: Bbox, other: Bbox) -> bool:
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    up = min(one.y1, other.y1) - max(one.y0, other.y0)
    return across > _SLACK and up > _SLACK
