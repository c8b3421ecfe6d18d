"""Tables as they come in life: a clean one, and faults that a seed puts into it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

MARKED = "column 'weight' is text, most of it numbers"
HOSPITALS = ("north", "south", "west")


@dataclass(frozen=True)
class Fault:
    """What is done to a clean table, and what a person would expect of it.

    Attributes:
        text: of the file, from the clean table and a generator.
        said: part of the sentence that refuses it; empty where it is to be read as the clean table, but for ``extra``.
        extra: encoded columns that come with it.
        noted: part of a note that tells of it.
        suffix: of the file.
    """

    text: Callable[[pd.DataFrame, np.random.Generator], str]
    said: str = ""
    extra: tuple[str, ...] = ()
    noted: str = ""
    suffix: str = ".csv"


def clean(rng: np.random.Generator) -> pd.DataFrame:
    """A table of patients: two columns of numbers, one of categories, hospitals and outcomes."""
    n = int(rng.integers(60, 140))
    return pd.DataFrame(
        {
            "age": rng.choice(np.arange(18, 40), n),
            "weight": rng.normal(70, 9, n).round(2),
            "sex": rng.choice(["F", "M"], n),
            "hospital": rng.choice(HOSPITALS, n),
            "outcome": rng.choice(["ill", "well"], n),
        }
    )


def _csv(frame: pd.DataFrame, **how: object) -> str:
    return str(frame.to_csv(**{"index": False, **how}))  # type: ignore[call-overload]


def _with(values: Callable[[int, np.random.Generator], object], name: str = "extra") -> Callable[..., str]:
    """The clean table and one more column, at a place of the seed's choice."""

    def text(frame: pd.DataFrame, rng: np.random.Generator) -> str:
        frame = frame.copy()
        frame.insert(int(rng.integers(0, frame.shape[1] + 1)), name, values(len(frame), rng))  # type: ignore[arg-type]
        return _csv(frame)

    return text


def _changed(change: Callable[[str, np.random.Generator], object], column: str, share: float) -> Callable[..., str]:
    """A share of a column's cells, at least one, written otherwise."""

    def text(frame: pd.DataFrame, rng: np.random.Generator) -> str:
        cells = frame[column].astype(str).astype(object).to_numpy(copy=True)
        for place in rng.permutation(len(cells))[: max(1, round(share * len(cells)))]:
            cells[place] = change(cells[place], rng)
        return _csv(frame.assign(**{column: cells}))

    return text


def _line(change: Callable[[str], str]) -> Callable[..., str]:
    def text(frame: pd.DataFrame, rng: np.random.Generator) -> str:
        lines = _csv(frame).splitlines()
        place = int(rng.integers(1, len(lines)))
        lines[place] = change(lines[place])
        return "\n".join(lines) + "\n"

    return text


def _dates(form: str) -> Callable[[int, np.random.Generator], object]:
    return lambda n, rng: (pd.Timestamp("2019-03-04") + pd.to_timedelta(rng.integers(0, 900, n), unit="D")).strftime(
        form
    )


FAULTS: Mapping[str, Fault] = {
    "index": Fault(lambda frame, _: _csv(frame, index=True), noted="an index without a name"),
    "saved twice": Fault(_with(lambda n, _: np.arange(n), "Unnamed: 0"), noted="an index without a name"),
    "names of rows": Fault(
        lambda frame, _: _csv(frame, index=True)[1:], noted="the first field of each line, a name of the row"
    ),
    "semicolons": Fault(lambda frame, _: _csv(frame, sep=";"), noted="semicolons"),
    "decimal commas": Fault(lambda frame, _: _csv(frame, sep=";", decimal=","), noted="decimal commas"),
    "bars": Fault(lambda frame, _: _csv(frame, sep="|"), noted="bars"),
    "tabs": Fault(lambda frame, _: _csv(frame, sep="\t"), suffix=".tsv", noted="tabs"),
    "byte order mark": Fault(lambda frame, _: "\ufeff" + _csv(frame)),
    "blanks": Fault(lambda frame, _: _csv(frame).replace(",", ", ")),
    "quotes": Fault(lambda frame, _: _csv(frame, quoting=1)),
    "two of a name": Fault(lambda frame, _: _csv(frame).replace("weight", "age", 1), "2 columns called 'age'"),
    "no names": Fault(lambda frame, _: _csv(frame[["age", "weight", "outcome"]], header=False), "names of columns"),
    "a column without a name": Fault(
        _with(lambda n, rng: rng.integers(0, 9, n), ""), "has no name, and holds values such as"
    ),
    "a separator too many": Fault(_line(lambda line: f"{line},5"), "has 6 fields, and most lines have 5"),
    "a field too few": Fault(_line(lambda line: line.rpartition(",")[0]), "has 4 fields, and most lines have 5"),
    "identifier": Fault(_with(lambda n, rng: rng.permutation(n) * 7 + 1000, "patient_id"), "an identifier"),
    "names": Fault(_with(lambda n, rng: [f"Ms {k}x" for k in rng.permutation(n)]), "an identifier, of which"),
    "dates": Fault(_with(_dates("%Y-%m-%d")), "'extra' holds dates"),
    "dates of the south": Fault(_with(_dates("%d.%m.%Y")), "'extra' holds dates"),
    "dates as numbers": Fault(_with(_dates("%Y%m%d")), "'extra' holds dates"),
    "durations": Fault(
        _with(lambda n, rng: [f"{k}:{k % 60:02d}:00" for k in rng.integers(0, 99, n)]), "holds times or durations"
    ),
    "lists": Fault(_with(lambda n, rng: [f"[{k}, {k}]" for k in rng.integers(0, 9, n)]), "'extra' holds lists"),
    "dollars": Fault(_changed(lambda cell, _: f"${cell}", "weight", 1.0), MARKED),
    "units": Fault(_changed(lambda cell, _: f"{cell} kg", "weight", 0.3), MARKED),
    "thousands": Fault(_changed(lambda cell, _: "1,234", "weight", 0.3), MARKED),
    "a word": Fault(_changed(lambda cell, _: "heavy", "weight", 0.02), MARKED),
    "question marks": Fault(_changed(lambda *_: "?", "age", 0.1), "column 'age' lacks"),
    "gaps": Fault(_changed(lambda *_: "", "sex", 0.1), "column 'sex' lacks"),
    "hyphens": Fault(_changed(lambda *_: "-", "weight", 0.1), "column 'weight' lacks"),
    "no outcome": Fault(_changed(lambda *_: "", "outcome", 0.05), "column 'outcome', the target, lacks"),
    "infinite": Fault(_changed(lambda *_: "inf", "weight", 0.05), "column 'weight' holds"),
    "codes": Fault(
        _with(lambda n, rng: rng.choice(["007", "010", "123"], n)), noted="leading zeros",
        extra=("extra=007", "extra=010", "extra=123"),
    ),
    "true and false": Fault(_with(lambda n, rng: rng.choice([True, False], n)), extra=("extra",)),
    "nothing at all": Fault(_with(lambda n, _: [""] * n), "no value at all"),
    "a number for none": Fault(_changed(lambda *_: "-999", "age", 0.1), noted="stands for a missing value"),
    "capitals": Fault(
        _with(lambda n, rng: rng.choice(["Yes", "no", "yes"], n)), noted="differ in capitals alone",
        extra=("extra=Yes", "extra=no", "extra=yes"),
    ),
    "thousands with dots": Fault(
        _with(lambda n, rng: [f"{k:,}".replace(",", ".") for k in rng.integers(1001, 9999, n)]),
        noted="if the dot parts thousands", extra=("extra",),
    ),
    "ordinals": Fault(
        _with(lambda n, rng: rng.choice(["1st", "2nd", "4th"], n)), extra=("extra=1st", "extra=2nd", "extra=4th")
    ),
    "row numbers as decimals": Fault(_with(lambda n, _: np.arange(n) * 1.0, "id"), "an identifier"),
    "splits that nobody knows": Fault(_with(lambda n, rng: rng.choice(["a", "b"], n), "split"), "holds 'a', 'b'"),
}  # fmt: skip
"""By name. A fault is refused in one sentence, or read as what it plainly is."""
