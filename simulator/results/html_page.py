"""A run's report as one HTML page that needs nothing else: to send to a colleague or a regulator.

Everything that a scenario, a data set or another package named is escaped, and the page's own policy forbids it to load
anything: figures are within it.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from palimpsest.simulator.results import frames
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.verdicts import headline

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_LONGEST = 400
"""Letters of a headline that is shown whole."""
_LONG_CELL = 20
"""Letters from which a cell is given a width, so that it is not broken at each word."""
_SMALL = 900
"""Pixels of the longer side."""
_SHORT = ("label", "utility_trained", "utility", "utility_retrained", "attack", "centred", "top1", "epsilon", "verdict")
_WRITTEN = ("variant", *_SHORT[:-1], "cosine", "label_accuracy", "completed", "rounds", "client_updates", "seconds")
_REQUESTS = (
    "number", "name", "round", "level", "records", "accepted", "reason", "utility_before", "utility_after",
    "utility_retrained", "epsilon_leaver", "epsilon_retained", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        path: of the PNG file.
        name: short.
        text: what it shows, for who does not see it.
    """

    path: Path
    name: str
    text: str

    @property
    def data_uri(self) -> str:
        """The file's content."""
        return _data_uri(self.path.read_bytes())

    @property
    def small_data_uri(self) -> str:
        """The same in fewer pixels and colours: notebooks keep what they show."""
        with Image.open(self.path) as image:
            image.thumbnail((_SMALL, _SMALL))
            small = io.BytesIO()
            image.convert("RGB").quantize(64).save(small, "png", optimize=True)
        return _data_uri(small.getvalue())


def page(run: RunFiles, pictures: Iterable[Picture]) -> str:
    """The whole page.

    Args:
        run: a finished one.
        pictures: in the order in which they are shown.
    """
    title, arms = escape(run.results.scenario), frames.arms(run)
    verdicts = [f"<li><b>{escape(_called(arm))}</b>: {escape(str(arm.verdict))}</li>" for arm in arms.itertuples()]
    parts = [
        f"<h1>{title}</h1>",
        f"<p class=headline>{escape(_headline(run))}.</p>",
        f"<p>{escape(_data(run))}</p>",
        "<h2>What was found</h2>",
        table(arms, _WRITTEN),
        f"<ul>{''.join(verdicts)}</ul>",
        *_section("The requests", frames.requests(run), ("arm", *_REQUESTS)),
        "<h2>Figures</h2>",
        *(_figure(picture, picture.data_uri) for picture in pictures),
        *_section("Every attack", frames.attacks(run), None),
        f"<h2>How to read the columns</h2><dl>{_glossary()}</dl>",
        "<h2>How it was made</h2>",
        f"<p>{escape(_made(run))}</p>",
        f"<details><summary>The scenario</summary><pre>{escape(_scenario(run))}</pre></details>",
        f"<details><summary>Digests of the transcripts</summary>{table(_digests(run), None)}</details>",
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{_asset("report.css")}</style></head>\n'
        f"<body>{''.join(parts)}<script>{_asset('report.js')}</script></body></html>\n"
    )


def fragment(run: RunFiles, pictures: Sequence[Picture]) -> str:
    """The headline, the table and one figure, for a cell of a notebook; no script in it."""
    parts = [f"<p><b>{escape(_headline(run))}.</b></p>", table(frames.arms(run), ("variant", *_SHORT))]
    shown = [_figure(picture, picture.small_data_uri) for picture in pictures[:1]]
    return "".join([*parts, *shown, f"<p>{escape(str(run.directory.path))}</p>"])


def _headline(run: RunFiles) -> str:
    """What was found; in counts where naming all ways of unlearning would fill the page: the list of verdicts does."""
    whole = headline(run.arms)
    return whole if len(whole) <= _LONGEST else headline(run.arms, brief=True)


def table(frame: pd.DataFrame, columns: Sequence[str] | None) -> str:
    """A table of those of the columns that have a value; numbers to three digits, the full value to sort by.

    Args:
        frame: of plain values.
        columns: in this order; None: all.
    """
    kept = [name for name in (frame.columns if columns is None else columns) if name in frame and _says(frame[name])]
    head = "".join(f"<th scope=col>{escape(str(name).replace('_', ' '))}</th>" for name in kept)
    body = "".join(
        f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in frame[kept].itertuples(index=False, name=None)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _says(column: "pd.Series[Any]") -> bool:
    return any(not _missing(value) and value != "" for value in column)


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


def _cell(value: Any) -> str:
    if _missing(value):
        return "<td></td>"
    if isinstance(value, bool | np.bool_):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, int | np.integer):
        return f'<td class=n data-v="{int(value)}">{value:,}</td>'
    if isinstance(value, float | np.floating):
        return f'<td class=n data-v="{float(value)!r}">{value:.3g}</td>'
    said = str(value)
    return f"<td{' class=t' if len(said) >= _LONG_CELL else ''}>{escape(said)}</td>"


def _section(title: str, frame: pd.DataFrame, columns: Sequence[str] | None) -> list[str]:
    """A heading and a table; nothing where there are no rows."""
    return [f"<h2>{title}</h2>", table(frame, columns)] if len(frame) else []


def _data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _figure(picture: Picture, source: str) -> str:
    text = escape(picture.text, quote=True)
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{escape(picture.name)}: {text}</figcaption></figure>'


def _called(arm: object) -> str:
    parts = (getattr(arm, "variant", ""), getattr(arm, "label", ""), f"seed {getattr(arm, 'seed', '')}")
    return ", ".join(part for part in parts if part)


def _data(run: RunFiles) -> str:
    """What was trained on and deleted, in a sentence for each of the configurations that differ."""
    said = dict.fromkeys(
        f"{arm.data.source}: {arm.data.records:,} records of {arm.data.clients:,} clients, {arm.data.public:,} public "
        f"records, {arm.data.test:,} for testing; {arm.requests_made} requests to delete at the level of the "
        f"{arm.deletion.level}, {arm.requests_completed} done."
        for arm in run.arms
    )
    return " ".join(said)


def _made(run: RunFiles) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.results.versions.items())
    machine = ", ".join(f"{name} {value}" for name, value in run.results.machine.items())
    return f"With {versions}; on {machine}." if machine else f"With {versions}."


def _scenario(run: RunFiles) -> str:
    path = run.directory.scenario_file
    return path.read_text(encoding="utf-8") if path.is_file() else "not kept"


def _digests(run: RunFiles) -> pd.DataFrame:
    return pd.DataFrame([{"arm": arm.arm, "transcript_digest": arm.transcript_digest} for arm in run.arms])


def _glossary() -> str:
    known = {name: frames.ARM_COLUMNS[name] for name in _WRITTEN if name in frames.ARM_COLUMNS}
    return "".join(f"<dt>{name.replace('_', ' ')}</dt><dd>{escape(text)}</dd>" for name, text in known.items())


def _asset(name: str) -> str:
    return resources.files("palimpsest.simulator.results").joinpath("page", name).read_text(encoding="utf-8")
