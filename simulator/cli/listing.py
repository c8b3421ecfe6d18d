"""What there is to choose from, as tables for ``palimpsest list``; imports neither torch nor ray nor mlflow."""

import tomllib
from collections.abc import Callable
from importlib import resources
from typing import get_args

from rich import box
from rich.table import Table

from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.records import Level

_MODELS = {
    "ridge": "linear, half the squared error (one-hot targets for classes); optimum in closed form",
    "softmax": "linear, cross-entropy",
    "svm": "linear, squared hinge, one class against the rest",
    "mlp": "one hidden layer of ReLUs",
    "cnn": "two convolutions and a linear head; images only",
    "resnet18": "ResNet-18 for small images, with GroupNorm; images only",
}


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
    from palimpsest.simulator.world.data.sources import cards

    found.add_column("name", style="bold", no_wrap=True)
    found.add_column("what it is")
    for name, card in cards().items():
        found.add_row(name, card.summary)
    found.add_row(MNIST_LIKE, "any number of clients, whose digits are made where they are read")
    found.add_row("path/to/file.csv, .parquet", "your own table: y, optionally client and split, and inputs")
    found.add_row("hub:owner/name", "images of the Hugging Face hub: splits train and test, columns image and label")
    found.add_row("path/to/folder", "your own images, PNG or JPEG: a folder a class, maybe within train and test")
    found.add_row("path/to/file.npz", "your own: x, y, and optionally client, split, class_names, feature_names")


def _models(found: Table) -> None:
    found.add_column("name", style="bold", no_wrap=True)
    found.add_column("what it is")
    for name, summary in _MODELS.items():
        found.add_row(name, summary)


def _unlearning(found: Table) -> None:
    from palimpsest.simulator.scenario.registry import card, names

    _methods(found, {name: card("unlearning", name) for name in names("unlearning")})


def _attacks(found: Table) -> None:
    from palimpsest.simulator.scenario.registry import card, names

    _methods(found, {name: card("attack", name) for name in names("attack")})


def _defenses(found: Table) -> None:
    from palimpsest.simulator.scenario.registry import card, names

    _methods(found, {name: card("defense", name) for name in names("defense")})


def _methods(found: Table, cards: dict[str, Card]) -> None:
    """Name, summary and source, what it works on and needs, what it promises."""
    found.add_column("name", style="bold", no_wrap=True)
    found.add_column("what it does", min_width=30)
    found.add_column("works on", min_width=9)
    found.add_column("needs", min_width=8)
    found.add_column("promises", min_width=8)
    for name, card in cards.items():
        summary = f"{card.summary} ({card.source})" if card.source else card.summary
        levels = () if set(card.levels) == set(get_args(Level)) else card.levels
        works_on = ", ".join([*levels, *card.models, *card.algorithms]) or "everything"
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
    "unlearning": _unlearning,
    "attacks": _attacks,
    "defenses": _defenses,
    "measures": _measures,
    "figures": _figures,
}
