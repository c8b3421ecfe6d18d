"""What clients send the server, on disk: what a server hears beyond the releases, where the adversary is one.

``messages/`` beside a transcript, outside of its digest: ``messages.jsonl``, a line for each question and model, and a
safetensors file with the model that was sent (``start/``) and what came back (``sent/``, a row a message).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.records import Array, Message, Params, Phase

MESSAGES = "messages"
"""Name of the folder beside a transcript."""
_INDEX = "messages.jsonl"
_KEPT = 16
"""Files held in memory at once."""


@dataclass(frozen=True)
class Sent:
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

    id: int
    branch: int
    round: int
    kind: Literal["update", "gradient"]
    about: Literal["retained", "forgotten"]
    clients: Sequence[Sequence[int]]
    weights: Sequence[float]
    file: str
    sha256: str

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
        groups, counts = [list(group) for group in clients], [float(weight) for weight in weights]
        self._write(Sent(self._count, branch, round, kind, about, groups, counts, file, digest))

    def begin_with(self, folder: Path, rounds: int) -> None:
        """Take over what another folder holds of the first so many rounds of training; files are shared, not copied."""
        for line in _lines(folder):
            if line.branch == 0 and line.round < rounds:
                file = f"{self._count:06d}.safetensors"
                os.link(folder / line.file, self.folder / file)
                self._write(Sent(**{**asdict(line), "id": self._count, "file": file}))

    def _write(self, line: Sent) -> None:
        with (self.folder / _INDEX).open("a") as index:
            index.write(json.dumps(asdict(line)) + "\n")
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
        path = (self._folder / line.file).resolve()
        if path.parent != self._folder.resolve():
            raise TranscriptError(f"messages {line.id} point outside their folder: {line.file}")
        try:
            payload = path.read_bytes()
        except OSError as error:
            raise TranscriptError(f"messages {line.id} cannot be read: {error}") from None
        if hashlib.sha256(payload).hexdigest() != line.sha256:
            raise TranscriptError(f"messages {line.id} ({path}) are not what was recorded: their SHA-256 differs")
        try:
            arrays: Mapping[str, Array] = load_safetensors(payload)
        except SafetensorError as error:
            raise TranscriptError(f"messages {line.id} ({path}) are no safetensors file: {error}") from None
        return arrays


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
    index = folder / _INDEX
    if not index.is_file():
        return []
    try:
        return [Sent(**json.loads(line)) for line in index.read_text().splitlines()]
    except (json.JSONDecodeError, TypeError) as error:
        raise TranscriptError(f"{index} has a broken line: {error}") from None
