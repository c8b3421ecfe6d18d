"""What other installed packages announce by entry points, looked up by name without importing any of it."""

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from palimpsest.simulator.world.cards import MeasureCard
from palimpsest.simulator.world.errors import RunFailure, printable

Card = TypeVar("Card")


@dataclass(frozen=True)
class Announced:
    """An entry of another package.

    Attributes:
        target: ``"package.module:name"``.
        package: the installed package and its version.
        distribution: the package's name, as it is called where it is installed.
    """

    target: str
    package: str
    distribution: str

    @property
    def of(self) -> str:
        """Whose it is, in a table's words."""
        return f"of the package {self.package}"


def announced(group: str) -> Mapping[str, Announced]:
    """By name, ascending, what packages announce under one group of entry points."""
    return _announced(group, tuple(sys.path))


@lru_cache(maxsize=32)
def _announced(group: str, path: tuple[str, ...]) -> Mapping[str, Announced]:
    """Looked up once for each ``path``: it reads a file of every package."""
    points = sorted(importlib.metadata.entry_points(group=group), key=lambda point: point.name)
    return {
        point.name: Announced(point.value, f"{point.dist.name} {point.dist.version}", point.dist.name)
        for point in points
        if point.dist is not None
    }


def with_announced(
    built_in: Mapping[str, Card], group: str, card: Callable[[Announced], Card], taken: Collection[str] = ()
) -> dict[str, Card]:
    """The entries of a table: built-in ones, then those of other packages. Imports none of them.

    Args:
        built_in: whose names nobody else's entry takes.
        group: of entry points.
        card: what the table says of another package's entry.
        taken: further names that are not free.
    """
    others = {
        name: card(point) for name, point in announced(group).items() if name not in built_in and name not in taken
    }
    return {**built_in, **others}


def measure_cards(
    built_in: Mapping[str, MeasureCard], group: str, taken: Collection[str] = ()
) -> dict[str, MeasureCard]:
    """The entries of a table of measures or answers; see ``with_announced``."""
    return with_announced(built_in, group, lambda point: MeasureCard(point.target, point.of), taken)


def said_of(error: BaseException) -> str:
    """The first line of an error of somebody else's; its type where it says nothing, or cannot."""
    try:
        lines = str(error).splitlines()
    except Exception:
        lines = []
    said = printable(lines[0]) if lines else ""
    return type(error).__name__ if not said or isinstance(error, SystemExit) else said


def imported(target: str, what: str, kind: type | None = None) -> object:
    """Import what a card names.

    Args:
        target: ``"package.module:name"``.
        what: it is, for the error.
        kind: that it has to be; None: anything that can be called.

    Raises:
        RunFailure: it cannot be imported, whatever its module raises, or is something else.
    """
    module, _, name = target.partition(":")
    try:
        thing: object = getattr(importlib.import_module(module), name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module of somebody else's, which may even end the process
        raise RunFailure(f"{what} ({target}) cannot be imported: {said_of(error)}") from error
    if not (callable(thing) if kind is None else isinstance(thing, kind)):
        wanted = "a function" if kind is None else f"of the type {kind.__name__}"
        raise RunFailure(f"{what} ({target}) is {type(thing).__name__}; it must be {wanted}")
    return thing
