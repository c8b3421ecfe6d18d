"""Columns of free text: a record becomes a bag of the words that the public sample uses."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from palimpsest.simulator.world.data.column_kinds import Column
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

if TYPE_CHECKING:
    import pandas as pd

_WORD = re.compile(r"[^\W_]{2,}")
_MOST = 1000
"""Words of a column, at most."""
_ENOUGH = 2
"""Public records in which a word occurs at least: a word of one record would name it."""


def text_column(name: str, cells: "pd.Series") -> Column:
    """A column whose cells are read as text, whatever stands in them; an empty one has no words.

    Returns:
        A category whose levels are the texts.
    """
    texts = ["" if value is None or value != value else str(value) for value in cells.astype(object)]
    levels, codes = np.unique(np.array(texts, dtype=object).astype(str), return_inverse=True)
    return Column(name, "category", codes.astype(np.float64), tuple(str(level) for level in levels))


def words_of(text: str) -> list[str]:
    """Its words of two letters or digits at least, in small letters."""
    return [word.casefold() for word in _WORD.findall(text)]


def vocabulary(name: str, texts: Sequence[str]) -> tuple[str, ...]:
    """The words that occur in most of the texts, 1,000 at most and each in two at least, in alphabetical order.

    Raises:
        DataError: there is no such word.
    """
    counts = Counter(word for text in texts for word in set(words_of(text)))
    ranked = sorted((-count, word) for word, count in counts.items() if count >= _ENOUGH)
    if not ranked:
        raise DataError(
            f"column {name!r} has no word that occurs in two of the {len(texts)} public records; raise "
            f"public_fraction, or leave the column out"
        )
    return tuple(sorted(word for _, word in ranked[:_MOST]))


def bags(texts: Sequence[str], known: Sequence[str]) -> Array:
    """``[texts, words]`` float32: how often each known word occurs in each text."""
    places = {word: place for place, word in enumerate(known)}
    counts = np.zeros((len(texts), len(known)), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in words_of(text):
            if word in places:
                counts[row, places[word]] += 1.0
    return counts
