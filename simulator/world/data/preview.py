"""What was understood of a source, and who holds what of it: shown before anything runs."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.data.reading import Note
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Frozen, Schema, Task

_LISTED = 1000
"""Clients whose names and sizes are kept; the others are counted."""


class ColumnPreview(Frozen):
    """One input column of a table, as it was read.

    Attributes:
        levels: of a category; its codes as text where the source has no names.
        low, high: of numbers.
        missing: how many values are filled in.
    """

    name: str
    kind: Literal["number", "zero or one", "category", "text"]
    levels: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    missing: int = 0


class Preview(Frozen):
    """What a scenario's data are.

    Attributes:
        source: its name.
        records: that were read and can be used.
        private, public, test: how many of them the clients hold, are the public sample, are for testing.
        classes: names and numbers of records; empty for regression.
        target: smallest and largest, of a regression.
        columns: of a table; empty for images.
        shape: of a record as models read it: ``(channels, height, width)``, or ``(d,)`` after encoding.
        range: smallest and largest input of clients and public sample as models read them.
        clients: how many.
        sizes: records of the smallest, the median and the largest client.
        listed: names and sizes of clients, the first 1,000.
        notes: how the source was understood, what was dropped or filled in and why, and what is worth a warning.
    """

    source: str
    task: Task
    records: int
    private: int
    public: int
    test: int
    classes: tuple[tuple[str, int], ...] = ()
    target: tuple[float, float] | None = None
    columns: tuple[ColumnPreview, ...] = ()
    shape: tuple[int, ...]
    range: tuple[float, float]
    clients: int
    sizes: tuple[int, int, int]
    listed: tuple[tuple[str, int], ...] = ()
    notes: tuple[Note, ...] = ()


def preview_of(
    raw: Raw,
    schema: Schema,
    sizes: Array,
    parts: tuple[int, int, int],
    inputs: tuple[float, float],
    notes: Sequence[Note],
) -> Preview:
    """Describe records that were read and divided.

    Args:
        raw: the records.
        schema: of the population.
        sizes: ``[clients]`` records of each client.
        parts: records of the clients, the public sample and the test data.
        inputs: range of what models read.
        notes: all of them.
    """
    names = schema.site_names or tuple(str(k) for k in range(len(sizes)))
    counts = () if raw.is_regression else np.bincount(raw.y, minlength=raw.classes).tolist()
    empty = [name for name, count in zip(schema.class_names, counts, strict=False) if not count]
    if empty:
        text = f"no record has the class {', '.join(empty[:6])}{', ...' if len(empty) > 6 else ''}"
        notes = [*notes, Note(kind="warning", text=text)]
    return Preview(
        source=raw.name,
        task=schema.task,
        records=len(raw.y),
        private=parts[0],
        public=parts[1],
        test=parts[2],
        classes=tuple(zip(schema.class_names, counts, strict=False)),
        target=(float(raw.y.min()), float(raw.y.max())) if raw.is_regression else None,
        columns=() if raw.is_image else tuple(_column(raw, k) for k in range(raw.x.shape[1])),
        shape=schema.shape,
        range=inputs,
        clients=len(sizes),
        sizes=sizes_of(sizes),
        listed=tuple((name, int(size)) for name, size in zip(names[:_LISTED], sizes[:_LISTED], strict=True)),
        notes=tuple(notes),
    )


def sizes_of(sizes: Array) -> tuple[int, int, int]:
    """Smallest, median and largest."""
    return int(sizes.min()), int(np.median(sizes)), int(sizes.max())


def _column(raw: Raw, place: int) -> ColumnPreview:
    name = raw.feature_names[place] if raw.feature_names else f"x{place}"
    values = raw.x[:, place]
    present = values[~np.isnan(values)]
    missing = len(values) - len(present)
    if place in raw.texts:
        return ColumnPreview(name=name, kind="text")
    if raw.categorical[place]:
        levels = raw.levels.get(place) or tuple(f"{code:g}" for code in np.unique(present))
        return ColumnPreview(name=name, kind="category", levels=levels, missing=missing)
    low, high = float(present.min()), float(present.max())
    flag = (low, high) == (0.0, 1.0) and bool(np.isin(present, (0.0, 1.0)).all())
    return ColumnPreview(name=name, kind="zero or one" if flag else "number", low=low, high=high, missing=missing)
