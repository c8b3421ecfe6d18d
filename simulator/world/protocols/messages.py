"""What clients send the server, on disk: what a server hears beyond the releases, where the adversary is one.

``messages/`` beside a transcript, outside of its digest: ``messages.jsonl``, a line for each question and model, and a
safetensors file with the model that was sent (``start/``) and what came back (``sent/``, a row a message).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError
from safetensors.numpy import save as save_safetensors

from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.protocols.strict import check_form, check_plain, form_of, read_arrays, read_file, said
from palimpsest.simulator.world.records import Array, Message, Params, Phase
from palimpsest.simulator.world.specs import Frozen

MESSAGES = "messages"
"""Name of the folder beside a transcript."""
_INDEX = "messages.jsonl"
_KEPT = 16
"""Files held in memory at once."""
_MOST = 1 << 28
"""Bytes of an index, at most."""
_FLOATS = ("float32", "float64")
_Number = Annotated[int, Field(ge=0)]


class Sent(Frozen):
    """One line: what one question about one model was answered with.

    Attributes:
        id: position among the lines.
        branch: of the model: 0 for the training, i + 1 for the alternative deletion i, below 0 for rounds in between.
        round: rounds of training behind the model, of a gradient the number of the step.
        kind: ``update``, the mean of local minus sent model; ``gradient``, the sum of gradients of single records.
        about: the records that were read.
        clients: of each message who is in it: one client, or a cohort that is summed.
        weights: of each message what it counts for in a mean: records, or clients where all count the same.
        file: of model and messages, relative to the folder.
    """

    id: _Number
    branch: int
    round: _Number
    kind: Literal["update", "gradient"]
    about: Literal["retained", "forgotten"]
    clients: tuple[tuple[_Number, ...], ...]
    weights: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]
    file: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @property
    def phase(self) -> Phase:
        """What the server was doing."""
        return "training" if self.branch == 0 else "between" if self.branch < 0 else "unlearning"


class MessageWriter:
    """Appends messages to a folder; what is there already stays.

    Args:
        folder: is created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._count = len(_lines(folder))

    def append(
        self,
        branch: int,
        round: int,
        kind: Literal["update", "gradient"],
        about: Literal["retained", "forgotten"],
        clients: Sequence[Sequence[int]],
        weights: Sequence[float],
        start: Params,
        sent: Params,
    ) -> None:
        """Write down what came back for one model; see ``Sent``.

        Args:
            start: the model that was sent.
            sent: name -> ``[messages, ...]``.
        """
        arrays = {f"start/{name}": np.ascontiguousarray(value) for name, value in start.items()}
        arrays |= {f"sent/{name}": np.ascontiguousarray(value) for name, value in sent.items()}
        payload, file = save_safetensors(arrays), f"{self._count:06d}.safetensors"
        (self.folder / file).write_bytes(payload)
        digest = hashlib.sha256(payload).hexdigest()
        self._write(
            Sent(
                id=self._count,
                branch=branch,
                round=round,
                kind=kind,
                about=about,
                clients=tuple(tuple(int(client) for client in group) for group in clients),
                weights=tuple(float(weight) for weight in weights),
                file=file,
                sha256=digest,
            )
        )

    def begin_with(self, folder: Path, rounds: int) -> None:
        """Take over what another folder holds of the first so many rounds of training; files are shared, not copied."""
        for line in _lines(folder):
            if line.branch == 0 and line.round < rounds:
                file = f"{self._count:06d}.safetensors"
                os.link(folder / line.file, self.folder / file)
                self._write(line.model_copy(update={"id": self._count, "file": file}))

    def _write(self, line: Sent) -> None:
        with (self.folder / _INDEX).open("a") as index:
            index.write(json.dumps(line.model_dump()) + "\n")
        self._count += 1


class Messages:
    """The messages beside a transcript; none where the adversary is no server.

    Args:
        transcript: its directory.

    Raises:
        TranscriptError: a line is broken.
    """

    def __init__(self, transcript: Path) -> None:
        self._folder = transcript / MESSAGES
        self._lines = _lines(self._folder)
        self._load = lru_cache(maxsize=_KEPT)(self._read)

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Compare what every file claims to hold with an architecture, before any is loaded.

        Args:
            shapes: of its parameters, by name.

        Raises:
            TranscriptError: a file is missing, is no safetensors file, or holds something else.
        """
        for line in self._lines:
            wanted = {f"start/{name}": (_FLOATS, shape) for name, shape in shapes.items()}
            wanted |= {f"sent/{name}": (_FLOATS, (len(line.clients), *shape)) for name, shape in shapes.items()}
            check_form(f"messages {line.id} ({line.file})", form_of(self._folder, line.file), wanted)

    def of_branch(self, branch: int, rounds: int) -> list[Message]:
        """Messages of the first so many rounds of training, of the rounds after them, and of one branch, in order.

        Arrays are read when they are asked for.
        """
        heard = [
            line
            for line in self._lines
            if line.branch in (branch, -1 - rounds) or (line.branch == 0 and line.round < rounds)
        ]
        return [message for line in heard for message in self._messages(line)]

    def _messages(self, line: Sent) -> Iterator[Message]:
        for row, (clients, weight) in enumerate(zip(line.clients, line.weights, strict=True)):
            yield Message(
                phase=line.phase,
                round=line.round,
                kind=line.kind,
                about=line.about,
                clients=tuple(clients),
                weight=weight,
                start=_Stored(self, line, None),
                sent=_Stored(self, line, row),
            )

    def part(self, line: Sent, row: int | None) -> Params:
        """The model that was sent, or the message in one row.

        Raises:
            TranscriptError: the file is missing, or is not what was recorded.
        """
        prefix = "start/" if row is None else "sent/"
        arrays = {name.removeprefix(prefix): v for name, v in self._load(line.id).items() if name.startswith(prefix)}
        return arrays if row is None else {name: value[row] for name, value in arrays.items()}

    def _read(self, number: int) -> Mapping[str, Array]:
        line = self._lines[number]
        return read_arrays(self._folder, line.file, sha256=line.sha256)


class _Stored(Mapping[str, Array]):
    """Parameters that are read when they are asked for."""

    def __init__(self, messages: Messages, line: Sent, row: int | None) -> None:
        self._messages, self._line, self._row = messages, line, row

    def __getitem__(self, name: str) -> Array:
        value: Array = self._messages.part(self._line, self._row)[name]
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._messages.part(self._line, self._row))

    def __len__(self) -> int:
        return len(self._messages.part(self._line, self._row))


def _lines(folder: Path) -> list[Sent]:
    """The index, line by line; none where there is no folder.

    Raises:
        TranscriptError: a line is no line of messages.
    """
    index = folder / _INDEX
    if not index.is_symlink() and not index.exists():
        return []
    try:
        lines = read_file(folder, _INDEX, _MOST).decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise TranscriptError(f"{index} is no text: {error}") from None
    return [] if lines == [""] else [_line(index, number, line) for number, line in enumerate(lines)]


def _line(index: Path, number: int, text: str) -> Sent:
    where = f"{index}, line {number + 1},"
    try:
        line = Sent.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise TranscriptError(f"{where} {said(error)}") from None
    check_plain(f"{where} file", line.file)
    if line.id != number:
        raise TranscriptError(f"{where} has id {line.id} where {number} is due: ids count up from 0")
    if len(line.clients) != len(line.weights):
        raise TranscriptError(
            f"{where} has {len(line.clients)} groups of clients and {len(line.weights)} weights; give each group one"
        )
    return line
