"""Values that are missing in the inputs of a table, and what becomes of them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from palimpsest.simulator.world.data.reading import Note
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

if TYPE_CHECKING:
    from palimpsest.simulator.world.data.raw import Raw

REMEDY = "remove or impute them, or say data.missing = 'drop' or 'mean'"


def handled(raw: "Raw", missing: Literal["refuse", "drop", "mean"]) -> "Raw":
    """Refuse or drop records of a table that lack an input, or note how many values will be filled in.

    Values are filled in by the ``Encoder``, who knows the public sample.

    Raises:
        DataError: values are missing and nobody said what to do, or are infinite.
    """
    if raw.is_image or raw.x.dtype.kind != "f":
        return raw
    _refuse_infinite(raw)
    lacking = np.isnan(raw.x)
    if not lacking.any():
        return raw
    if missing == "refuse":
        raise DataError(_refusal(raw))
    counts = lacking.sum(axis=0)
    names = [f"{_name(raw, int(k))!r}" for k in np.flatnonzero(counts)]
    if missing == "mean":
        if (counts == len(raw.x)).any():
            raise DataError(f"column {_name(raw, int(counts.argmax()))!r} has no value at all; leave it out")
        how = {int(k): "most frequent category" if raw.categorical[k] else "mean" for k in np.flatnonzero(counts)}
        notes = tuple(
            Note(kind="filled", text=f"column {_name(raw, k)!r}, with the public sample's {what}", count=int(counts[k]))
            for k, what in how.items()
        )
        return replace(raw, notes=(*raw.notes, *notes))
    kept = np.logical_not(np.any(lacking, axis=1))
    if not kept.any():
        raise DataError(f"every record lacks a value of {', '.join(names)}; leave these columns out, or impute them")
    text = f"no value in {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
    note = Note(kind="dropped", text=text, count=int((~kept).sum()))
    return replace(only(raw, kept), notes=(*raw.notes, note))


def only(raw: "Raw", kept: Array) -> "Raw":
    """The records that are marked."""
    client = None if raw.client is None else raw.client[kept]
    split = None if raw.split is None else raw.split[kept]
    return replace(raw, x=raw.x[kept], y=raw.y[kept], client=client, split=split)


def _name(raw: "Raw", column: int) -> str:
    return raw.feature_names[column] if column < len(raw.feature_names) else f"x{column}"


def _refuse_infinite(raw: "Raw") -> None:
    infinite = np.argwhere(np.isinf(raw.x))
    if len(infinite) and raw.feature_names:
        column = int(infinite[0][1])
        count = int((infinite[:, 1] == column).sum())
        raise DataError(f"column {_name(raw, column)!r} holds {count} infinite values; correct them")
    if len(infinite):
        where = ", ".join(str(i) for i in infinite[0])
        raise DataError(f"x holds {len(infinite)} infinite values, the first at [{where}]; correct them")


def _refusal(raw: "Raw") -> str:
    places = np.argwhere(np.isnan(raw.x))
    if not raw.feature_names:
        where = ", ".join(str(i) for i in places[0])
        return f"x holds {len(places)} values that are NaN, the first at [{where}]; {REMEDY}"
    column = int(places[0][1])
    count, others = int((places[:, 1] == column).sum()), len(np.unique(places[:, 1])) - 1
    more = f", and {others} other columns lack some" if others else ""
    lacks = f"column {_name(raw, column)!r} lacks {count} values of {len(raw.x)} (empty, NA, None or ?){more}"
    return f"{lacks}; {REMEDY}"
