"""Whether a target is a class or an amount, and what the classes are called."""

import numpy as np

from palimpsest.simulator.world.data.column_kinds import Column
from palimpsest.simulator.world.data.reading import Note, TaskOrAuto
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

FEW = 20
"""Whole numbers with at most so many values are classes without a word."""
_RECORDS_PER_CLASS = 10


def target_of(column: Column, task: TaskOrAuto, notes: list[Note]) -> dict[str, Array]:
    """``y``, and ``class_names`` where it holds classes; what was taken for what is noted where it is not plain.

    Raises:
        DataError: the column cannot be what it is said to be.
    """
    values, levels = column.values, np.unique(column.values)
    name = f"column {column.name!r}, the target,"
    if not np.isfinite(values).all():
        raise DataError(f"{name} holds {int((~np.isfinite(values)).sum())} infinite values; correct them")
    numbers = column.kind in ("number", "whole number")
    if task == "regression" or (
        task == "auto" and numbers and amounts(column.kind == "number", levels, len(values), name, notes)
    ):
        if column.kind == "category":
            raise DataError(f"{name} is text, and data.task = 'regression' needs numbers; take 'classification'")
        return {"y": values}
    if column.kind == "number" and (levels != np.round(levels)).any():
        raise DataError(f"{name} holds fractions, and data.task = 'classification' needs classes; take 'regression'")
    if len(levels) < 2:
        raise DataError(f"{name} has one value in every record; two classes are needed")
    if len(values) >= FEW and len(levels) * 2 > len(values):
        raise DataError(
            f"{name} has {len(levels)} different values in {len(values)} records: each class needs several records"
            f"{'' if column.kind == 'category' else '; for amounts say data.task = ' + repr('regression')}"
        )
    if column.kind == "category":
        names = [column.levels[int(level)] for level in levels]
    else:
        names = [str(bool(level)) if column.kind == "boolean" else f"{level:.0f}" for level in levels]
    return {"y": np.searchsorted(levels, values).astype(np.int64), "class_names": np.array(names)}


def amounts(fractions: bool, levels: Array, n: int, name: str, notes: list[Note]) -> bool:
    """Whether numbers are amounts, where nobody says so; noted where a reader might think otherwise.

    Args:
        fractions: whether they are stored as decimals.
        levels: the different values.
        n: records.
        name: of the target, to begin a sentence with.
        notes: is added to.
    """
    say = "if they are {}, say data.task = '{}'"
    if fractions:
        if len(levels) <= FEW and (levels == np.round(levels)).all():
            text = f"{name} has {len(levels)} different values, stored as decimals: taken as amounts (regression); "
            notes.append(Note(kind="warning", text=text + say.format("classes", "classification")))
        return True
    if len(levels) <= FEW:
        return False
    regression = n < _RECORDS_PER_CLASS * len(levels)
    taken = "amounts (regression)" if regression else "classes"
    other = ("classes", "classification") if regression else ("amounts", "regression")
    text = f"{name} has {len(levels)} different whole numbers: taken as {taken}; {say.format(*other)}"
    notes.append(Note(kind="warning", text=text))
    return regression
