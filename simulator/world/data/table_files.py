"""Files of tables as columns by name: any separator, compressed or not, Parquet."""

import csv
import gzip
import io
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from palimpsest.simulator.world.data.reading import Note
from palimpsest.simulator.world.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_SEPARATORS = (",", ";", "\t", "|", " ")
_LOOKED_AT = 200
"""Lines from which the separator and the number of columns are found out."""
_GZIP = b"\x1f\x8b"
"""What a file begins with that gzip has compressed."""


def suffix_of(path: Path) -> str:
    """The suffix in lower case, with the one before ``.gz``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def read_columns(path: Path) -> "tuple[pd.DataFrame, list[Note]]":
    """All columns of a file; those of a text file hold text as it stands there.

    Raises:
        DataError: the file cannot be read, or its columns cannot be told apart by name.
    """
    import pandas as pd

    try:
        if suffix_of(path) == ".parquet":
            return _checked_names(*_parquet(path), path)
        return _checked_names(*_text(path), path)
    except DataError:
        raise
    except gzip.BadGzipFile:
        raise DataError(f"{path} is no gzip file, though its name ends in .gz: compress it, or rename it") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 (byte {error.start}): save it as CSV in UTF-8") from None
    except (pd.errors.EmptyDataError, StopIteration):
        raise DataError(f"{path} cannot be read as a table: it is empty") from None
    except Exception as error:  # the parsers fail in as many ways as files can be damaged
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} cannot be read as a table: {said}") from error


def _parquet(path: Path) -> "tuple[pd.DataFrame, list[Note]]":
    import pandas as pd
    import pyarrow.parquet

    names = list(map(str, pyarrow.parquet.read_schema(path).names))
    _refuse_twice(names, path)
    frame = pd.read_parquet(path)
    if frame.empty:
        raise DataError(f"{path} holds no records")
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    frame.columns = pd.Index([str(name).strip() for name in frame.columns])
    return frame, []


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
    if packed and path.suffix.lower() != ".gz":
        raise DataError(f"{path} is compressed by gzip: rename it to {path.name}.gz")
    if path.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _text(path: Path) -> "tuple[pd.DataFrame, list[Note]]":
    """Read a text file without a guess at what its cells mean."""
    import pandas as pd

    with _opened(path) as file:
        lines = list(islice(file, _LOOKED_AT))
    separator = "\t" if suffix_of(path).startswith(".tsv") else _separator(lines)
    rows = [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
    if not rows:
        raise DataError(f"{path} cannot be read as a table: it is empty")
    header = [name.strip() for name in rows[0]]
    _refuse_no_header(header, path)
    widths = [len(row) for row in rows[1:]] or [len(header)]
    width = max(set(widths), key=widths.count)
    frame = pd.DataFrame(_records(path, separator, width), dtype=object)
    notes = [] if separator == "," else [Note(kind="read", text=f"columns are separated by {_SHOWN[separator]}")]
    return _named(frame, header, path, notes)


_SHOWN = {"\t": "tabs", ";": "semicolons", "|": "bars", " ": "blanks"}


def _separator(lines: Sequence[str]) -> str:
    """The separator that cuts most lines into equally many fields, and into most of them."""

    def consistent(separator: str) -> tuple[float, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
        usual = max(set(widths), key=widths.count, default=1)
        return (widths.count(usual) / len(widths) if usual > 1 else 0.0), usual

    scores = {separator: consistent(separator) for separator in _SEPARATORS}
    best = max(scores.values())
    return next(separator for separator in _SEPARATORS if scores[separator] == best)


def _refuse_no_header(header: Sequence[str], path: Path) -> None:
    numbers = [name for name in header if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", name)]
    counted = [str(k) for k in range(len(header))]
    if len(numbers) * 2 > len(header) and list(header) != counted and header[1:] != counted[:-1]:
        raise DataError(
            f"{path} begins with {', '.join(header[:4])}: names of columns are needed in the first line, and this "
            f"looks like a record; put a line of names above it"
        )


def _records(path: Path, separator: str, width: int) -> list[list[str]]:
    """The cells of all lines below the first; equal ones are kept once.

    Raises:
        DataError: there are none, or a line is longer or shorter than most.
    """
    kept: dict[str, str] = {}
    records = []
    with _opened(path) as file:
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
        header = next(row for row in reader if row)
        for row in reader:
            if row and len(row) != width:
                raise DataError(
                    f"{path}: line {reader.line_num} has {len(row)} fields, and most lines have {width}: a separator "
                    f"within a value needs quotes around it; correct the line"
                )
            if row:
                records.append([kept.setdefault(cell, cell) for cell in row])
    if not records:
        raise DataError(f"{path} has a line of names, {', '.join(header)}, and no records below it")
    return records


def _named(
    frame: "pd.DataFrame", header: list[str], path: Path, notes: list[Note]
) -> "tuple[pd.DataFrame, list[Note]]":
    """Give the columns their names: where records have a field more than the header, it is a row's name or empty."""
    if len(header) == frame.shape[1] - 1:
        if (frame.iloc[:, -1] == "").all():
            frame = frame.iloc[:, :-1]
        elif frame.iloc[:, 0].is_unique:
            frame = frame.iloc[:, 1:]
            notes.append(Note(kind="read", text="the first field of each line, a name of the row, is left out"))
    if len(header) == frame.shape[1] + 1 and not header[-1]:
        header = header[:-1]
    if len(header) != frame.shape[1]:
        raise DataError(
            f"{path} has {len(header)} names of columns and {frame.shape[1]} fields in its records; correct the first "
            f"line"
        )
    frame.columns = header
    return frame, notes


def _refuse_twice(names: Sequence[str], path: Path) -> None:
    named = [name for name in names if name]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has {named.count(twice)} columns called {twice!r}; rename or remove all but one")


def _checked_names(frame: "pd.DataFrame", notes: list[Note], path: Path) -> "tuple[pd.DataFrame, list[Note]]":
    """Leave out a column of row numbers that nobody named, and refuse other columns without a name, or with two."""
    names = [str(name) for name in frame.columns]
    _refuse_twice(names, path)
    kept = []
    for place, name in enumerate(names):
        if name and not re.fullmatch(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__", name):
            kept.append(place)
            continue
        cells = frame.iloc[:, place].astype(str)
        if (cells == "").all():
            notes.append(Note(kind="read", text=f"column {place + 1}, without a name and empty, is left out"))
        elif _row_numbers(cells.tolist()) or (place == 0 and not name and cells.is_unique):
            notes.append(Note(kind="read", text=f"column {place + 1}, an index without a name, is left out"))
        else:
            raise DataError(
                f"{path}: column {place + 1} has no name, and holds values such as {cells.iloc[0]!r}; give it one in "
                f"the first line, or remove it"
            )
    return frame.iloc[:, kept], notes


def _row_numbers(cells: Sequence[str]) -> bool:
    """Whether cells count the records from 0 or 1."""
    return any(list(cells) == [str(k) for k in range(first, first + len(cells))] for first in (0, 1))
