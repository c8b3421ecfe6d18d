"""Which records are for training and which for testing, by word or number, never by alphabetical order."""

import numpy as np

from palimpsest.simulator.world.data.column_kinds import Column
from palimpsest.simulator.world.data.reading import Note, some
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

TRAIN, TEST, NEITHER = 0, 1, 2
_WORDS = {
    TRAIN: ("train", "training", "trn", "tr", "fit"),
    TEST: ("test", "testing", "tst", "te", "eval", "evaluation", "holdout", "hold-out", "heldout", "held-out"),
    NEITHER: ("validation", "valid", "val", "dev", "development", "unused", "extra", "unlabeled", "unlabelled"),
}
_CODES = {word: code for code, words in _WORDS.items() for word in words}


def split_of(column: Column, notes: list[Note]) -> Array:
    """``[n]`` 0 train, 1 test, 2 neither; what is neither is noted as dropped.

    Raises:
        DataError: a word or number is not known.
    """
    if column.kind == "category":
        split = of_words(column.name, np.array(column.levels)[column.values.astype(np.int64)])
    else:
        split = _of_numbers(column)
    left_out = int((split == NEITHER).sum())
    if left_out:
        notes.append(Note(kind="dropped", text=f"neither train nor test in column {column.name!r}", count=left_out))
    return split


def of_words(name: str, words: Array) -> Array:
    """``[n]`` codes of ``[n]`` words.

    Raises:
        DataError: one is not known.
    """
    levels, places = np.unique(words, return_inverse=True)
    unknown = [str(level) for level in levels if str(level).strip().casefold() not in _CODES]
    if unknown:
        raise DataError(
            f"column {name!r}, the split, holds {some([repr(word) for word in unknown])}; train, test and validation "
            f"are known (validation is left out)"
        )
    codes: Array = np.array([_CODES[str(level).strip().casefold()] for level in levels], dtype=np.int64)[places]
    if not (codes == TRAIN).any():
        raise DataError(f"column {name!r}, the split, says train of no record; nothing is left to learn from")
    return codes


def _of_numbers(column: Column) -> Array:
    """0 and 1, false and true: 1 means what the column is called for, and test where its name says neither."""
    values = column.values
    distinct = sorted(set(values.tolist()))
    name = column.name.casefold()
    if not set(distinct) <= {0.0, 1.0}:
        raise DataError(
            f"column {column.name!r}, the split, holds {some([f'{value:g}' for value in distinct])}; write the words "
            f"train, test and validation, or 0 for train and 1 for test"
        )
    says_train, says_test = "train" in name, "test" in name
    if column.kind == "boolean" and says_train == says_test:
        raise DataError(
            f"column {column.name!r}, the split, is true or false, and its name does not say of what; call it is_train "
            f"or is_test, or write the words train and test"
        )
    split = np.where(values == 1.0, TRAIN, TEST) if says_train and not says_test else values
    if not (split == TRAIN).any():
        raise DataError(f"column {column.name!r}, the split, says train of no record; nothing is left to learn from")
    return np.asarray(split, dtype=np.int64)
