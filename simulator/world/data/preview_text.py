"""A preview as lines of text for a terminal of 80 columns."""

import textwrap
from collections.abc import Iterator, Sequence

from palimpsest.simulator.world.data.preview import ColumnPreview, Preview

_INDENT = 10
_TOGETHER = "\u00a0"
"""A blank at which no line is broken, until the lines are done."""
_NAMED = 8
"""Columns, levels, classes or clients that are named before the rest is counted."""


def lines(preview: Preview, width: int = 80) -> list[str]:
    """What a user sees before anything runs: a word on the left, and what it is about, wrapped."""
    text_lines = []
    for word, text in _rows(preview):
        wrapped = textwrap.wrap(text, width - _INDENT, break_long_words=True) or [""]
        text_lines += [f"{word:<{_INDENT}}{wrapped[0]}", *(" " * _INDENT + more for more in wrapped[1:])]
    return [line.replace(_TOGETHER, " ") for line in text_lines]


def _rows(preview: Preview) -> Iterator[tuple[str, str]]:
    yield "data", f"{preview.source}: {preview.records:,} records, {preview.task}"
    yield "records", f"{preview.private:,} of clients, {preview.public:,} public, {preview.test:,} for testing"
    if preview.classes:
        named = [f"{name}{_TOGETHER}({count:,})" for name, count in preview.classes]
        yield "classes", f"{len(named)}: {_listed(named, 12)}"
    if preview.target is not None:
        yield "target", _range(*preview.target)
    if preview.columns:
        yield from _columns(preview)
    else:
        channels, height, across = preview.shape
        colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
        yield "images", f"{height} x {across}, {colour}, values {_range(*preview.range)}"
    yield "clients", _clients(preview)
    for kind, word, unit in (("dropped", "dropped", "record"), ("filled", "filled in", "value")):
        for note in preview.notes:
            if note.kind == kind:
                yield word, f"{note.count:,} {unit}{'s' if note.count != 1 else ''}: {note.text}"
    for kind, word in (("read", "read"), ("warning", "warning")):
        for note in preview.notes:
            if note.kind == kind:
                yield word, note.text


def _columns(preview: Preview) -> Iterator[tuple[str, str]]:
    by_kind: dict[str, list[ColumnPreview]] = {}
    for column in preview.columns:
        by_kind.setdefault(column.kind, []).append(column)
    called = {"number": "of numbers", "zero or one": "of 0 and 1", "category": "of categories", "text": "of text"}
    for kind, columns in by_kind.items():
        yield "columns", f"{len(columns)} {called[kind]}: {_listed([_column(column) for column in columns], _NAMED)}"
    yield "inputs", f"{preview.shape[0]} after encoding, values {_range(*preview.range)}"


def _column(column: ColumnPreview) -> str:
    if column.kind == "category":
        return f"{column.name} ({_listed(list(column.levels), 5)})"
    return column.name if column.kind in ("zero or one", "text") else f"{column.name} {_range(column.low, column.high)}"


def _clients(preview: Preview) -> str:
    low, middle, high = preview.sizes
    each = f"{low:,} records each" if low == high else f"{low:,} to {high:,} records each, median {middle:,}"
    if [name for name, _ in preview.listed] == [str(k) for k in range(len(preview.listed))]:
        return f"{preview.clients:,}, {each}"
    named = [f"{name}{_TOGETHER}({size:,})" for name, size in preview.listed]
    rest = preview.clients - len(named)
    return f"{preview.clients:,}, {each}: {_listed(named, _NAMED, rest)}"


def _listed(names: Sequence[str], most: int, beyond: int = 0) -> str:
    rest = max(len(names) - most, 0) + beyond
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest else "")


def _range(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}"
