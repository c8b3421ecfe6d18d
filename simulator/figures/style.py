"""How every figure looks: one colour an attack, a title that is a sentence, and nothing that is not data."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Title: TypeAlias = str | Sequence[str]
"""A title, or several of which the first that is short enough is shown."""
INK, PALE, RULE = "#222222", "#8A8A8A", "#DDDDDD"

_COLOURS = {
    "hrec": "#D55E00",
    "average": "#777777",
    "public-draw": "#8C7A68",
    "max-difference": "#0072B2",
    "raw-difference": "#009E73",
    "inversion": "#AA4499",
    "fuia": "#6A8F00",
    "draun": "#BB5566",
    "igf": "#5C4B8A",
    "fuia-classes": "#225555",
    "unmix": "#332288",
    "updates-leak": "#56B4E9",
    "sequence": "#4477AA",
    "compound": "#661100",
    "class-score": "#44AA99",
    "probing": "#CC6677",
    "probing-top1": "#117733",
    "probing-label": "#999933",
    "candidate-match": "#88CCEE",
    "deletion-inference": "#E69F00",
    "deletion-lira": "#882255",
    "u-lira": "#DDCC77",
    "client-profile": "#004488",
    "likelihood-ratio": "#7B2D8E",
    "posterior-mean": "#A67C00",
}
"""After Okabe and Ito 2008 and Tol 2021. Of the shipped attacks no two share a colour."""
_OTHERS = ("#E69F00", "#882255", "#117733", "#88CCEE")

_DEFENSES = {
    "none": INK,
    "dp-sgd": "#D55E00",
    "central-dp": "#0072B2",
    "dp-statistics": "#009E73",
    "output-perturbation": "#D870B8",
    "obfuscation": "#882255",
    "pruning": "#332288",
    "rounding": "#5B8FE0",
    "finetuning": "#4F7F78",
    "batching": "#6B5400",
    "stack": "#55360A",
}
"""Of the shipped defenses no two look alike to anybody, red-green blind or not, and all can be read on white."""
_OTHER_DEFENSES = ("#4477AA", "#CC6677", "#999933")

_LEADING = 1.4 / 72

STYLE: Any = {  # matplotlib's own type lists every key
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "figure.facecolor": "white",
}


def colour(attack: str) -> str:
    """The colour of an attack, the same in every figure and every run."""
    return _COLOURS.get(attack) or _OTHERS[sum(attack.encode()) % len(_OTHERS)]


def defense_colour(kind: str) -> str:
    """The colour of a defense, the same in every figure and every run; black where there is none."""
    return _DEFENSES.get(kind) or _OTHER_DEFENSES[sum(kind.encode()) % len(_OTHER_DEFENSES)]


def name(attack: str) -> str:
    """What readers call an attack."""
    return {"average": "public mean"}.get(attack, attack.replace("-", " "))


def heading(figure: Figure, title: Title, detail: str = "") -> None:
    """Write the title, and the detail below it, at the top left; it takes ``heading_inches``.

    Both are also what somebody is told who cannot see the figure, until ``describe`` says more.
    """
    width, height = figure.get_size_inches()
    describe(figure, f"{fitting(width, title)}. {detail}".strip())
    top = 0.12
    for text, size, weight, ink in _lines(width, title, detail):
        figure.text(0.12 / width, 1 - top / height, text, size=size, weight=weight, color=ink, va="top")
        top += size * _LEADING


def heading_inches(width: float, title: Title, detail: str = "") -> float:
    """Height that a heading needs on a figure ``width`` inches wide."""
    return 0.2 + sum(size * _LEADING for _, size, _, _ in _lines(width, title, detail))


def fitting(width: float, title: Title) -> str:
    """The first of the titles given that takes two lines at most; the last is cut where none does."""
    given = [title] if isinstance(title, str) else list(title)
    across = int((width - 0.24) * 9.4)
    found = next((one for one in given if len(textwrap.wrap(one, across)) <= 2), given[-1])
    return " ".join(textwrap.wrap(found, across, max_lines=2, placeholder=" ..."))


def describe(figure: Figure, text: str) -> None:
    """Say what a figure shows, for those who cannot see it; it is saved with the figure."""
    figure.set_label(text)


def alternative_text(path: Path) -> str:
    """What a saved figure shows, in words; empty where it was not drawn here."""
    from PIL import Image

    with Image.open(path) as image:
        return str(image.info.get("Description", ""))


def wrapped(text: str, inches: float, size: float = 9) -> str:
    """A label in bold type of so many points, in lines of at most so many inches."""
    return "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, int(inches / (0.0098 * size))))


def _lines(width: float, title: Title, detail: str) -> list[tuple[str, float, str, str]]:
    """(text, size in points, weight, colour) of each line."""
    shown = textwrap.wrap(fitting(width, title), int((width - 0.24) * 9.4))
    titles = [(line, 11.5, "bold", INK) for line in shown]
    return titles + [(line, 8.5, "normal", "#555555") for line in textwrap.wrap(detail, int((width - 0.24) * 16))]


def bare(axes: Axes) -> None:
    """Take away axes, ticks and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def spread(values: Sequence[float], apart: float) -> list[float]:
    """Move ascending label positions up so that neighbours are at least ``apart``, then centre each moved crowd."""
    crowds: list[list[float]] = []
    for value in values:
        crowds.append([value])
        while len(crowds) > 1 and _places(crowds[-1], apart)[0] - _places(crowds[-2], apart)[-1] < apart:
            crowds[-2:] = [crowds[-2] + crowds[-1]]
    return [place for crowd in crowds for place in _places(crowd, apart)]


def _places(crowd: Sequence[float], apart: float) -> list[float]:
    middle = sum(crowd) / len(crowd)
    return [middle + (k - (len(crowd) - 1) / 2) * apart for k in range(len(crowd))]


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG so that a reader finds the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    FigureCanvasAgg(figure)
    figure.savefig(draft, dpi=160, format="png", metadata={"Description": str(figure.get_label())})
    draft.replace(path)
    return path
