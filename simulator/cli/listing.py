"""What there is to choose from, as tables for ``palimpsest list``; imports neither torch nor ray nor mlflow."""

import tomllib
from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, get_args

from rich import box
from rich.table import Table

from palimpsest.simulator.world.errors import DataError, ModelError
from palimpsest.simulator.world.records import Level

if TYPE_CHECKING:
    from palimpsest.simulator.scenario.registry import Group
    from palimpsest.simulator.world.data.sources import SourceCard


def listing(kind: str) -> Table:
    """The table of one kind.

    Args:
        kind: one of ``KINDS``.
    """
    found = Table(box=box.SIMPLE_HEAD, title=kind, title_justify="left", title_style="bold", pad_edge=False)
    KINDS[kind](found)
    return found


def _scenarios(found: Table) -> None:
    found.add_column("name", style="bold", no_wrap=True)
    found.add_column("what it shows")
    for file in sorted(
        resources.files("palimpsest.simulator.scenario").joinpath("shipped").iterdir(), key=lambda file: file.name
    ):
        if file.name.endswith(".toml"):
            text = file.read_text(encoding="utf-8")
            found.add_row(file.name.removesuffix(".toml"), _first_comment(text) or tomllib.loads(text)["name"])


def _first_comment(text: str) -> str:
    """What a scenario's file begins with."""
    first = text.partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _datasets(found: Table) -> None:
    from palimpsest.simulator.world.data.datasets import MNIST_LIKE
    from palimpsest.simulator.world.data.sources import CARDS, cards

    found.add_column("name", style="bold", no_wrap=True)
    found.add_column("what it is")
    for name, card in cards().items():
        found.add_row(name, card.summary if name in CARDS else _of_a_package(card))
    found.add_row(MNIST_LIKE, "any number of clients, whose digits are made where they are read")
    found.add_row("path/to/file.csv, .tsv, .parquet", "your own table: data.columns says which column is what")
    found.add_row("hub:owner/name", "images of the Hugging Face hub: splits train and test, columns image and label")
    found.add_row("path/to/folder", "your own images, PNG or JPEG: a folder a class, maybe within train and test")
    found.add_row("path/to/file.npz", "your own: x, y, and optionally client, split, class_names, feature_names")


def _of_a_package(card: "SourceCard") -> str:
    """What another package's data set is; why, of one that cannot be used."""
    try:
        card.function()
    except DataError as error:
        return f"cannot be used: {error}"
    return card.summary


def _models(found: Table) -> None:
    from palimpsest.simulator.world.models.kinds import model_card, names

    found.add_column("name", style="bold", no_wrap=True)
    found.add_column("what it is")
    found.add_column("its options")
    for name in names():
        try:
            card = model_card(name)
        except ModelError as error:  # what another package breaks hides nothing else
            found.add_row(name, f"cannot be used: {error}", "-")
            continue
        options = [f"{key} = {value}" for key, value in card.options().model_dump().items()]
        found.add_row(name, card.summary, ", ".join(options) or "-")


def _methods(group: "Group", found: Table) -> None:
    """Name, summary and source, what it works on and needs, what it promises; why, of one that cannot be used."""
    from palimpsest.simulator.scenario.errors import ScenarioError
    from palimpsest.simulator.scenario.registry import card as card_of
    from palimpsest.simulator.scenario.registry import names

    found.add_column("name", style="bold", no_wrap=True)
    found.add_column("what it does", min_width=30)
    found.add_column("works on", min_width=9)
    found.add_column("needs", min_width=8)
    found.add_column("promises", min_width=8)
    for name in names(group):
        try:
            card = card_of(group, name)
        except ScenarioError as error:
            found.add_row(name, f"cannot be used: {error}", "-", "-", "-")
            continue
        summary = f"{card.summary} ({card.source})" if card.source else card.summary
        levels = () if set(card.levels) == set(get_args(Level)) else card.levels
        works_on = ", ".join([*levels, *card.models, *card.traits, *card.algorithms]) or "everything"
        found.add_row(name, summary, works_on, ", ".join(card.needs) or "-", card.promises)


def _measures(found: Table) -> None:
    from palimpsest.simulator.attack_metrics.measures import cards as of_reconstructions
    from palimpsest.simulator.unlearning_metrics.measures import cards as of_models

    found.add_column("name", style="bold", no_wrap=True)
    found.add_column("of", no_wrap=True)
    found.add_column("what it measures")
    for name, card in of_reconstructions().items():
        found.add_row(name, "reconstructions", card.summary)
    for name, measure in of_models().items():
        found.add_row(name, "unlearned models", measure.summary)


def _figures(found: Table) -> None:
    from palimpsest.simulator.figures import cards

    found.add_column("name", style="bold", no_wrap=True)
    found.add_column("what it shows")
    found.add_column("drawn where there are")
    for name, card in cards().items():
        found.add_row(name, card.summary, card.applies)


KINDS: dict[str, Callable[[Table], None]] = {
    "scenarios": _scenarios,
    "datasets": _datasets,
    "models": _models,
    "strategies": partial(_methods, "strategy"),
    "unlearning": partial(_methods, "unlearning"),
    "attacks": partial(_methods, "attack"),
    "defenses": partial(_methods, "defense"),
    "measures": _measures,
    "figures": _figures,
}
