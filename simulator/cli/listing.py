"""What there is to choose from, as tables for ``palimpsest list``; imports neither torch nor ray nor mlflow."""

import itertools
import re
import tomllib
from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, get_args

from rich import box
from rich.table import Table
from rich.text import Text

from palimpsest.simulator.world.errors import DataError, ModelError, RunFailure, printable
from palimpsest.simulator.world.plugins import imported
from palimpsest.simulator.world.records import Level

if TYPE_CHECKING:
    from palimpsest.simulator.figures import FigureCard
    from palimpsest.simulator.scenario.registry import Group
    from palimpsest.simulator.world.cards import MeasureCard
    from palimpsest.simulator.world.data.sources import SourceCard


_SHORT = 160
_WIDE = 120
"""Columns of a terminal from which on facts have columns of their own; below it they stand under what a thing does."""


def listing(kind: str, width: int = _WIDE) -> Table:
    """The table of one kind.

    Args:
        kind: one of ``KINDS``.
        width: of the terminal.
    """
    table = Table(box=box.SIMPLE_HEAD, title=kind, title_justify="left", title_style="bold", pad_edge=False)
    rows = Table()
    KINDS[kind](rows)
    headers, cells = [str(column.header) for column in rows.columns], [list(column.cells) for column in rows.columns]
    narrow = width < _WIDE and len(headers) > 2
    for header in headers[:2] if narrow else headers:
        table.add_column(header, style="bold" if header == "name" else "", no_wrap=header == "name")
    for name, text, *facts in zip(*cells, strict=True):
        if narrow:
            said = [f"{head}: {fact}" for head, fact in zip(headers[2:], facts, strict=True) if fact != "-"]
            cells_of_row = [name, f"{text}\n{'; '.join(said)}" if said else text]
        else:
            cells_of_row = [name, text, *facts]
        table.add_row(*map(_plain, cells_of_row))
    return table


def _plain(cell: str) -> Text:
    """A cell as it is: what another package says is no markup, and steers no terminal."""
    return Text("\n".join(map(printable, cell.split("\n"))))


def _scenarios(table: Table) -> None:
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it shows")
    for file in sorted(
        resources.files("palimpsest.simulator.scenario").joinpath("shipped").iterdir(), key=lambda file: file.name
    ):
        if file.name.endswith(".toml"):
            text = file.read_text(encoding="utf-8")
            table.add_row(file.name.removesuffix(".toml"), _first_comment(text) or tomllib.loads(text)["name"])


def _first_comment(text: str) -> str:
    """The sentences that a scenario's file begins with: one, and more as long as they are short."""
    lines = itertools.takewhile(lambda line: line.startswith("#") and line.strip("# "), text.split("\n"))
    sentences = re.split(r"(?<=[.?!]) (?=[A-Z])", " ".join(line.lstrip("# ") for line in lines))
    lengths = itertools.accumulate(len(sentence) + 1 for sentence in sentences[1:])
    more = (s for s, length in zip(sentences[1:], lengths, strict=True) if length + len(sentences[0]) <= _SHORT)
    return " ".join([sentences[0], *more])


def _datasets(table: Table) -> None:
    from palimpsest.simulator.world.data.datasets import MNIST_LIKE
    from palimpsest.simulator.world.data.sources import CARDS, cards

    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it is")
    for name, card in cards().items():
        table.add_row(name, card.summary if name in CARDS else _of_a_package(card))
    table.add_row(MNIST_LIKE, "any number of clients, whose digits are made where they are read")
    table.add_row("path/to/file.csv, .tsv, .parquet", "your own table: data.columns says which column is what")
    table.add_row("hub:owner/name", "images of the Hugging Face hub: splits train and test, columns image and label")
    table.add_row("path/to/folder", "your own images, PNG or JPEG: a folder a class, maybe within train and test")
    table.add_row("path/to/file.npz", "your own: x, y, and optionally client, split, class_names, feature_names")


def _of_a_package(card: "SourceCard") -> str:
    """What another package's data set is; why, of one that cannot be used."""
    try:
        card.function()
    except DataError as error:
        return f"cannot be used: {error}"
    return card.summary


def _models(table: Table) -> None:
    from palimpsest.simulator.world.models.kinds import model_card, names
    from palimpsest.simulator.world.models.stepping import stepping_of

    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it is")
    table.add_column("its options")
    table.add_column("clients are stepped")
    for name in names():
        try:
            card = model_card(name)
        except ModelError as error:  # what another package breaks hides nothing else
            table.add_row(name, f"cannot be used: {error}", "-", "-")
            continue
        options = [f"{key} = {value}" for key, value in card.options().model_dump().items()]
        table.add_row(name, card.summary, ", ".join(options) or "-", stepping_of(name))


def _methods(group: "Group", table: Table) -> None:
    """Name, summary and source, what it works on and needs, what it promises; why, of one that cannot be used."""
    from palimpsest.simulator.scenario.errors import ScenarioError
    from palimpsest.simulator.scenario.registry import card as card_of
    from palimpsest.simulator.scenario.registry import names

    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it does", min_width=30)
    table.add_column("works on", min_width=9)
    table.add_column("needs", min_width=8)
    table.add_column("promises", min_width=8)
    for name in names(group):
        try:
            card = card_of(group, name)
        except ScenarioError as error:
            table.add_row(name, f"cannot be used: {error}", "-", "-", "-")
            continue
        summary = f"{card.summary} ({card.source})" if card.source else card.summary
        levels = () if set(card.levels) == set(get_args(Level)) else card.levels
        works_on = ", ".join([*levels, *card.models, *card.traits, *card.algorithms]) or "everything"
        table.add_row(name, summary, works_on, ", ".join(card.needs) or "-", card.promises)


def _measures(table: Table) -> None:
    from palimpsest.simulator.attack_metrics.measures import cards as of_reconstructions
    from palimpsest.simulator.unlearning_metrics.measures import cards as of_models

    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it measures")
    table.add_column("of", no_wrap=True)
    for name, card in of_reconstructions().items():
        table.add_row(name, _summary(card, f"measure {name!r}"), "reconstructions")
    for name, measure in of_models().items():
        table.add_row(name, _summary(measure, f"measure {name!r}"), "unlearned models")


def _answers(table: Table) -> None:
    from palimpsest.simulator.attack_metrics.answers import cards

    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what an attack then says")
    for name, card in cards().items():
        table.add_row(name, card.summary)


def _figures(table: Table) -> None:
    from palimpsest.simulator.figures import cards

    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it shows")
    table.add_column("drawn where there are")
    for name, card in cards().items():
        table.add_row(name, _summary(card, f"figure {name!r}"), card.applies)


def _summary(card: "MeasureCard | FigureCard", what: str) -> str:
    """What it is; of another package's, why where it cannot be used."""
    if not card.target.startswith("palimpsest.simulator."):
        try:
            imported(card.target, f"the {what}", object)
        except RunFailure as error:
            return f"cannot be used: {error}"
    return card.summary


KINDS: dict[str, Callable[[Table], None]] = {
    "scenarios": _scenarios,
    "datasets": _datasets,
    "models": _models,
    "strategies": partial(_methods, "strategy"),
    "unlearning": partial(_methods, "unlearning"),
    "attacks": partial(_methods, "attack"),
    "defenses": partial(_methods, "defense"),
    "measures": _measures,
    "answers": _answers,
    "figures": _figures,
}
