"""Tables as the arrays that an npz file would hold: which column is what, and whether all of them can be used."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from palimpsest.simulator.world.data.column_kinds import Column, read_column
from palimpsest.simulator.world.data.reading import Columns, Note, Reading, nearest, some
from palimpsest.simulator.world.data.splits import split_of
from palimpsest.simulator.world.data.table_files import SUFFIXES, read_columns, suffix_of
from palimpsest.simulator.world.data.targets import target_of
from palimpsest.simulator.world.data.texts import text_column
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

__all__ = ["SUFFIXES", "read_table", "suffix_of"]

_ENOUGH = 20
"""Records from which on it is telling that nearly every value is different."""
_MANY_LEVELS = 50
_IDENTIFIER = re.compile(r"(.*[ _.-])?(id|ids|uuid|guid|key|index|idx|nr|no|number|row|rownum)|.*[a-z]I[dD]")


def read_table(path: Path, reading: Reading) -> dict[str, Any]:
    """Read a table.

    Returns:
        ``x``, ``y`` and what else an npz file may hold, ``levels`` of the categorical columns by position, and
        ``notes``. ``x`` holds NaN where a value is missing.

    Raises:
        DataError: the file cannot be read, or one of its columns cannot be used.
    """
    frame, notes = read_columns(path)
    try:
        roles = _roles(reading.columns, [str(name) for name in frame.columns])
        typed = suffix_of(path) == ".parquet"
        columns = {
            str(name): (
                text_column(str(name), cells) if name in reading.columns.text else read_column(str(name), cells, typed)
            )
            for name, cells in frame.items()
            if name not in reading.columns.drop
        }
        for column in columns.values():
            notes += column.notes
        kept, dropped = _complete(columns, roles, reading)
        return _arrays(kept, roles, reading, [*notes, *dropped])
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _roles(wanted: Columns, names: Sequence[str]) -> dict[str, str]:
    """Role -> name of the column that has it."""
    for role, name in (("target", wanted.target), ("client", wanted.client), ("split", wanted.split)):
        if name and name not in names:
            raise DataError(_no_column(f"data.columns.{role}", name, names))
    for key, given in (("drop", wanted.drop), ("text", wanted.text)):
        for name in given:
            if name not in names:
                raise DataError(_no_column(f"data.columns.{key}", name, names))
    target = wanted.target or "y"
    if target not in names:
        raise DataError(
            f"there is no column 'y' to learn (the columns are {some(list(names), 12)}); name the target by "
            f'data.columns = {{ target = "..." }}'
        )
    roles = {"target": target}
    for role, name in (("client", wanted.client or "client"), ("split", wanted.split or "split")):
        if name in names and name not in (*wanted.drop, *wanted.text, *roles.values()):
            roles[role] = name
    return roles


def _no_column(path: str, name: str, names: Sequence[str]) -> str:
    return f"{path} = {name!r}: there is no such column; {nearest(name, list(names))}there are {some(list(names), 12)}"


def _complete(
    columns: dict[str, Column], roles: Mapping[str, str], reading: Reading
) -> tuple[dict[str, Column], list[Note]]:
    """Leave out records without target, client or split: nothing can be filled in there."""
    notes = []
    kept = np.ones(len(columns[roles["target"]].values), dtype=bool)
    for role, name in roles.items():
        missing = columns[name].missing
        if not missing.any():
            continue
        lacks = f"column {name!r}, the {role}, lacks {int(missing.sum())} of {len(missing)} values"
        if reading.missing == "refuse":
            raise DataError(f"{lacks}; fill them in, or say data.missing = 'drop' to leave these records out")
        notes.append(Note(kind="dropped", text=f"no value in column {name!r}, the {role}", count=int(missing.sum())))
        kept &= ~missing
    if not kept.any():
        raise DataError("no record has all of target, client and split; fill them in")
    return {name: replace(column, values=column.values[kept]) for name, column in columns.items()}, notes


def _arrays(
    columns: dict[str, Column], roles: Mapping[str, str], reading: Reading, notes: list[Note]
) -> dict[str, Any]:
    inputs = [column for name, column in columns.items() if name not in roles.values()]
    if not inputs:
        raise DataError(f"there is no column but {some(list(roles.values()))}: nothing is left to learn from")
    texts = [place for place, column in enumerate(inputs) if column.name in reading.columns.text]
    for place, column in enumerate(inputs):
        notes += [] if place in texts else suspicious(column)
    arrays: dict[str, Any] = dict(target_of(columns[roles["target"]], reading.task, notes))
    if "client" in roles:
        arrays |= _clients(columns[roles["client"]], notes)
    if "split" in roles:
        arrays["split"] = split_of(columns[roles["split"]], notes)
    arrays["x"] = np.column_stack([column.values for column in inputs])
    arrays["feature_names"] = np.array([column.name for column in inputs])
    arrays["is_categorical"] = np.array([column.kind == "category" for column in inputs])
    arrays["levels"] = {place: column.levels for place, column in enumerate(inputs) if column.levels}
    arrays["texts"] = tuple(texts)
    arrays["notes"] = tuple(notes)
    return arrays


def suspicious(column: Column) -> list[Note]:
    """Warn of an input that hardly helps a model.

    Raises:
        DataError: it tells records apart, and nothing else.
    """
    values = column.values[~column.missing]
    n, different = len(values), len(np.unique(values))
    if n < _ENOUGH:
        return []
    leave_out = f"leave it out by data.columns.drop = [{column.name!r}]"
    if column.kind == "category" and different > 0.9 * n:
        raise DataError(
            f"column {column.name!r} has {different} different values in {n} records, such as {column.levels[0]!r}: an "
            f"identifier, of which a model learns nothing; {leave_out}, or say data.columns.text if it is free text"
        )
    if column.kind != "category" and different == n and (values == np.round(values)).all():
        counted = values.max() - values.min() == n - 1
        if _IDENTIFIER.fullmatch(column.name) or _IDENTIFIER.fullmatch(column.name.casefold()):
            raise DataError(f"column {column.name!r} has another whole number in each of {n} records: an identifier; "
                            f"{leave_out}, or rename it if it is a measurement")  # fmt: skip
        if counted:
            return [Note(kind="warning", text=f"column {column.name!r} numbers the records: {leave_out}")]
    folded = {level.casefold(): level for level in column.levels}
    if len(folded) < len(column.levels):
        twin = next(level for level in column.levels if folded[level.casefold()] != level)
        text = f"column {column.name!r} has categories that differ in capitals alone, {twin!r} and "
        return [Note(kind="warning", text=f"{text}{folded[twin.casefold()]!r}; write them alike if they are one")]
    if column.kind == "category" and (different > _MANY_LEVELS or different * 4 > n):
        text = f"column {column.name!r} has {different} categories in {n} records, and becomes as many columns"
        return [Note(kind="warning", text=text)]
    if different == 1:
        return [Note(kind="warning", text=f"column {column.name!r} has the same value in every record")]
    return []


def _clients(column: Column, notes: list[Note]) -> dict[str, Array]:
    values = column.values
    if (values != np.round(values)).any():
        raise DataError(f"column {column.name!r}, the client, holds fractions such as {values[0]:g}; ids or names are "
                        f"needed")  # fmt: skip
    different = len(np.unique(values))
    if len(values) >= _ENOUGH and different > 0.9 * len(values):
        text = f"column {column.name!r} names {different} clients for {len(values)} records"
        notes.append(Note(kind="warning", text=text))
    names = {"client_names": np.array(column.levels)} if column.levels else {}
    return {"client": values.astype(np.int64), **names}
