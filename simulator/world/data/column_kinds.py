"""What the cells of a column are: numbers, booleans, categories, or something that is no input of a model."""

import datetime
import decimal
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from palimpsest.simulator.world.data.reading import Note
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "whole number", "boolean", "category"]

_MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?", "nat"}
"""Cells that stand for no value, in small letters; those below do so among numbers only."""
_MISSING_NUMBERS = {"-", "--", ".", "*", "missing", "unknown"}

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?inf(inity)?", re.IGNORECASE)
_WHOLE = re.compile(r"[-+]?\d+")
_DECIMAL_COMMA = re.compile(r"[-+]?(\d+|\d{1,3}(\.\d{3})+),\d+")
_AMBIGUOUS_COMMA = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_THREE_DECIMALS = re.compile(r"[-+]?[1-9]\d{0,2}\.\d{3}")
_LEADING_ZERO = re.compile(r"0\d+")
_MARKED = re.compile(
    r"([A-Z]{3} |[^\w.,]{0,3})[-+]?[^\w.,]{0,3}\d[\d.,' ]*([eE][-+]?\d+)?\s?(?!(st|nd|rd|th)$)[^\d.,]{0,5}"
)
_NO_INPUT = {
    "dates": re.compile(
        r"\d{4}[-/]\d{1,2}([-/]\d{1,2}([ T].*)?)?|\d{4}\.\d{1,2}\.\d{1,2}([ T].*)?"
        r"|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})([ T].*)?"
        r"|\d{1,2}[- ][A-Za-z]{3,9}[- ,]+\d{2,4}.*|[A-Za-z]{3,9} \d{1,2},? \d{4}.*"
    ),
    "times or durations": re.compile(
        r"[-+]?\d{1,3}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?|[-+]?\d+ days?( .*)?|P(\d+[YMWD])+(T.*)?|PT.*"
    ),
    "lists": re.compile(r"\[.*\]|\{.*\}|\(.*\)", re.DOTALL),
}
_REMEDY = {
    "dates": "make a number of each, such as days since the first or the month, or leave the column out",
    "times or durations": "make a number of each, such as seconds, or leave the column out",
    "lists": "give each item a column of its own, or leave the column out",
}


@dataclass(frozen=True)
class Column:
    """The values of one column.

    Attributes:
        kind: what they are.
        values: ``[n]`` float64; of a category its level's position; NaN: there is none.
        levels: of a category, in alphabetical order.
        notes: how cells were understood, where that is not plain.
    """

    name: str
    kind: Kind
    values: Array
    levels: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def missing(self) -> Array:
        """``[n]`` whether there is no value."""
        missing: Array = np.isnan(self.values)
        return missing


def read_column(name: str, cells: "pd.Series", typed: bool) -> Column:
    """Find out what a column holds.

    Args:
        name: of the column.
        cells: text as it stands in a file, or values of a typed file.
        typed: whether the file says what is text and what is a number.

    Raises:
        DataError: it holds what no model takes, or numbers that are not written as such; the sentence begins with the
            column's name.
    """
    kind = cells.dtype.kind if hasattr(cells.dtype, "kind") else "O"
    if kind in "Mm":
        _refuse(name, "dates" if kind == "M" else "times or durations", str(cells.dropna().iloc[0]))
    if kind == "c":
        raise DataError(f"column {name!r} holds complex numbers; give real and imaginary part a column each")
    if kind in "biuf":
        values = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        return _plausible(_present(name, Column(name, _kind_of(kind), values)))
    given = cells.astype(object)
    absent = given.isna().to_numpy()
    if absent.all():
        raise DataError(f"column {name!r} has no value at all; leave it out by data.columns.drop")
    types: set[type] = {type(value) for value in given[~absent]} if typed else {str}
    _refuse_objects(name, types, given[~absent].iloc[0])
    if types <= {bool, np.bool_, int, float, decimal.Decimal}:
        values = np.array([np.nan if gone else float(v) for v, gone in zip(given, absent, strict=True)])
        return Column(name, "boolean" if types <= {bool, np.bool_} else "number", values)
    column = _of_text(name, _Texts.of(given))
    return _still_text(column) if typed else _plausible(column)


def _kind_of(kind: str) -> Kind:
    kinds: dict[str, Kind] = {"b": "boolean", "f": "number"}
    return kinds.get(kind, "whole number")


def _refuse(name: str, what: str, example: str) -> None:
    raise DataError(f"column {name!r} holds {what}, such as {example!r}: {_REMEDY[what]} by data.columns.drop")


def _refuse_objects(name: str, types: set[type], example: object) -> None:
    for kind in types:
        if issubclass(kind, datetime.timedelta | datetime.time):
            _refuse(name, "times or durations", str(example))
        if issubclass(kind, datetime.date):
            _refuse(name, "dates", str(example))
        if issubclass(kind, list | tuple | dict | np.ndarray | bytes):
            _refuse(name, "lists", str(example)[:40])


@dataclass(frozen=True)
class _Texts:
    """Cells of text, each different one kept once.

    Attributes:
        codes: ``[n]`` positions in ``different``; -1: there is none.
        different: without blanks around them.
    """

    codes: Array
    different: list[str]

    @classmethod
    def of(cls, cells: "pd.Series") -> "_Texts":
        import pandas as pd

        codes, different = pd.factorize(cells)
        return cls(codes, [str(text).strip() for text in different])

    def looked_up(self, values: Mapping[str, float]) -> Array:
        """``[n]`` float64, NaN where a text has no value."""
        each = np.array([*(values.get(text, np.nan) for text in self.different), np.nan], dtype=np.float64)
        cells: Array = each[self.codes]
        return cells

    def counts(self) -> dict[str, int]:
        """How often each text occurs, but for those that stand for no value."""
        counts_of: dict[str, int] = {}
        sizes = np.bincount(self.codes[self.codes >= 0], minlength=len(self.different)).tolist()
        for text, size in zip(self.different, sizes, strict=True):
            if text.casefold() not in _MISSING:
                counts_of[text] = counts_of.get(text, 0) + size
        return counts_of


def _of_text(name: str, texts: _Texts) -> Column:
    """The column that cells of text stand for."""
    counts = texts.counts()
    if not counts:
        raise DataError(f"column {name!r} has no value at all; leave it out by data.columns.drop")
    numbers = {text for text in counts if _NUMBER.fullmatch(text)}
    others = {text: count for text, count in counts.items() if text not in numbers}
    if numbers and all(text.casefold() in _MISSING_NUMBERS for text in others):
        return _of_numbers(name, texts, numbers)
    if all(text.casefold() in ("true", "false") for text in counts):
        return Column(name, "boolean", texts.looked_up({text: float(text.casefold() == "true") for text in counts}))
    if all(_DECIMAL_COMMA.fullmatch(text) for text in others):
        if not all(_AMBIGUOUS_COMMA.fullmatch(text) for text in others):
            return _of_decimal_commas(name, texts, counts)
    else:
        _refuse_no_input(name, counts)
    _refuse_mostly_numbers(name, counts, others)
    return _categories(name, texts, sorted(counts))


def _of_numbers(name: str, texts: _Texts, numbers: set[str]) -> Column:
    if any(_LEADING_ZERO.fullmatch(text) for text in numbers) and all(_WHOLE.fullmatch(text) for text in numbers):
        note = Note(kind="read", text=f"column {name!r} has leading zeros: its values are codes, one category each")
        return _categories(name, texts, sorted(numbers), (note,))
    whole = all(_WHOLE.fullmatch(text) for text in numbers)
    values = texts.looked_up({text: float(text) for text in numbers})
    notes: tuple[Note, ...] = ()
    dotted = [text for text in numbers if not _WHOLE.fullmatch(text)]
    if dotted and all(_THREE_DECIMALS.fullmatch(text) for text in dotted):
        text = (
            f"column {name!r} has three decimals everywhere, such as {min(dotted)}, and is read so; if the dot parts "
        )
        notes = (Note(kind="warning", text=text + "thousands, write the numbers without it"),)
    return Column(name, "whole number" if whole else "number", values, notes=notes)


def _of_decimal_commas(name: str, texts: _Texts, counts: dict[str, int]) -> Column:
    values = {text: float(text.replace(".", "").replace(",", ".") if "," in text else text) for text in counts}
    note = Note(kind="read", text=f"column {name!r} has decimal commas, such as {next(t for t in counts if ',' in t)}")
    return Column(name, "number", texts.looked_up(values), notes=(note,))


def _categories(name: str, texts: _Texts, levels: Sequence[str], notes: tuple[Note, ...] = ()) -> Column:
    codes = {level: float(code) for code, level in enumerate(levels)}
    return Column(name, "category", texts.looked_up(codes), tuple(levels), notes)


def _refuse_no_input(name: str, counts: dict[str, int]) -> None:
    total = sum(counts.values())
    for what, pattern in _NO_INPUT.items():
        matching = {text: count for text, count in counts.items() if pattern.fullmatch(text)}
        if sum(matching.values()) * 2 > total:
            _refuse(name, what, next(iter(matching))[:40])


def _refuse_mostly_numbers(name: str, counts: dict[str, int], others: dict[str, int]) -> None:
    """Refuse text of which most cells would be numbers if they were written plainly."""
    numeric = sum(count for text, count in counts.items() if text not in others or _MARKED.fullmatch(text))
    if numeric * 2 <= sum(counts.values()):
        return
    marked = next((text for text in others if _MARKED.fullmatch(text)), next(iter(others)))
    raise DataError(
        f"column {name!r} is text, most of it numbers, but {sum(others.values())} of its cells are not plain ones, "
        f"such as {marked!r}: write digits and a decimal point alone (or words, if these are categories), or leave the "
        f"column out by data.columns.drop"
    )


def _still_text(column: Column) -> Column:
    """A typed file says that this is text: where it holds numbers, somebody stored them as text."""
    if column.kind in ("category", "boolean"):
        return column
    raise DataError(
        f"column {column.name!r} is stored as text, and all of it is numbers: store it as numbers, or put a letter "
        f"before each if they are codes of categories"
    )


def _present(name: str, column: Column) -> Column:
    if column.missing.all():
        raise DataError(f"column {name!r} has no value at all; leave it out by data.columns.drop")
    return column


def _plausible(column: Column) -> Column:
    """Refuse dates that are written as numbers, such as 20240131, and warn of -9, -99, ... alone below 0."""
    if column.kind not in ("number", "whole number"):
        return column
    values = column.values[~column.missing]
    low = values.min()
    if not np.isfinite(values).all():
        return column
    months, days = values // 100 % 100, values % 100
    in_a_year = (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)
    if low >= 19000101 and values.max() <= 21001231 and in_a_year.all():
        _refuse(column.name, "dates", f"{values[0]:.0f}")
    if low not in (-9.0, -99.0, -999.0, -9999.0) or (values == low).all() or values[values > low].min() < 0:
        return column
    text = f"column {column.name!r} is {low:g} in {int((values == low).sum())} records, and nowhere else below 0: if "
    note = Note(kind="warning", text=text + "that stands for a missing value, leave these cells empty")
    return replace(column, notes=(*column.notes, note))
