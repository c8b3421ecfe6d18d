"""How a source is to be read, and what was understood, dropped or filled in on the way."""

from difflib import get_close_matches
from typing import Any, Literal

from pydantic import field_validator, model_validator

from palimpsest.simulator.world.specs import Frozen

TaskOrAuto = Literal["auto", "classification", "regression"]


class Columns(Frozen):
    """Which columns of a table are what; all others are inputs.

    Attributes:
        target: the column to learn; empty: ``y``.
        client: the natural partition; empty: ``client``, where there is such a column.
        split: train and test, in words or as 0 and 1; empty: ``split``, where there is such a column.
        drop: columns that are left out.
        text: columns of free text, which become bags of words.
    """

    target: str = ""
    client: str = ""
    split: str = ""
    drop: tuple[str, ...] = ()
    text: tuple[str, ...] = ()

    @field_validator("drop", "text", mode="before")
    @classmethod
    def _names(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given

    @model_validator(mode="after")
    def _each_once(self) -> "Columns":
        given = [name for name in (self.target, self.client, self.split, *self.drop, *self.text) if name]
        twice = next((name for name in given if given.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"names the column {twice!r} twice; a column is target, client, split, text or dropped")
        return self


class Reading(Frozen):
    """How a source is to be read.

    Attributes:
        columns: of a table.
        missing: what happens to records that lack a value: ``refuse`` them all, ``drop`` these records, or fill in the
            ``mean`` of the public sample (of a category column its most frequent level). A record without target,
            client or split can only be dropped.
        task: whether targets are classes or amounts; ``auto``: text, booleans and whole numbers are classes, unless
            they are whole numbers with more than 20 values, fewer than 10 records each.
    """

    columns: Columns = Columns()
    missing: Literal["refuse", "drop", "mean"] = "refuse"
    task: TaskOrAuto = "auto"


class Note(Frozen):
    """One thing that a user should know about how the data were read.

    Attributes:
        kind: ``read``: how something was understood; ``dropped``, ``filled``: what became of records or values;
            ``warning``: what is probably not meant so.
        text: one sentence, or part of one.
        count: of records that were dropped, or of values that were filled in.
    """

    kind: Literal["read", "dropped", "filled", "warning"]
    text: str
    count: int = 0


def nearest(word: str, known: list[str]) -> str:
    """Return ``did you mean 'X'? `` where ``word`` looks like a known one, else nothing."""
    near = get_close_matches(word.casefold(), [name.casefold() for name in known], n=1)
    return next((f"did you mean {name!r}? " for name in known if near and name.casefold() == near[0]), "")


def some(values: list[str], most: int = 6) -> str:
    """The first values, and that there are more."""
    return ", ".join(values[:most]) + (", ..." if len(values) > most else "")
