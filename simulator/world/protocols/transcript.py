"""What the eavesdropper hears, in order, on disk: the only thing that leaves the federation for the adversary.

One append-only directory: ``releases.jsonl``, a line ``{id, parent, branch, round, phase, file, sha256}`` each, and one
safetensors file a release. Branch 0 is the trunk; another branch starts from the trunk release that is its first
parent.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError
from safetensors.numpy import save as save_safetensors

from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.protocols.strict import check_form, check_plain, form_of, read_arrays, read_file, said
from palimpsest.simulator.world.records import Array, Params, Phase, Release
from palimpsest.simulator.world.specs import Frozen

INDEX = "releases.jsonl"
_MOST = 1 << 26
"""Bytes of an index, at most."""
_Number = Annotated[int, Field(ge=0)]


class TranscriptLine(Frozen):
    """One line of the transcript.

    Attributes:
        id: position in the transcript.
        parent: id of the release before it in its branch, or the trunk release that the branch left; None at the start.
        round, phase: side information; None where the adversary is denied it (``knows_bracket = false``).
        file: of the parameters, relative to the transcript.
        sha256: of the file's bytes, in lower-case hexadecimal digits.
    """

    id: _Number
    parent: _Number | None
    branch: _Number
    round: _Number | None
    phase: Phase | None
    file: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class TranscriptWriter:
    """Appends releases to a directory; what is there already stays.

    Args:
        directory: of the transcript.
        with_phases: whether rounds and phases are written down.
        bits: significant binary digits to which parameters are rounded before they are written; 0: exact.
    """

    def __init__(self, directory: Path, with_phases: bool = True, bits: int = 0) -> None:
        self.directory = directory
        self._with_phases = with_phases
        self._bits = bits
        (directory / "releases").mkdir(parents=True, exist_ok=True)
        self.heard: list[TranscriptLine] = []
        self._last: dict[int, int] = {}

    def append(self, release: Release, parent: int | None = None) -> int:
        """Record one release; return its id.

        Args:
            release: what was broadcast.
            parent: the trunk release that a new branch leaves; the branch's last release where not given.
        """
        number = len(self.heard)
        exact = {name: np.ascontiguousarray(value) for name, value in release.params.items()}
        read = exact if self._bits == 0 else {name: rounded(value, self._bits) for name, value in exact.items()}
        payload = save_safetensors(read)
        file = f"releases/{number:06d}.safetensors"
        draft = self.directory / f"{file}.draft"
        draft.write_bytes(payload)
        draft.replace(self.directory / file)
        line = TranscriptLine(
            id=number,
            parent=self._last.get(release.branch, parent),
            branch=release.branch,
            round=release.round if self._with_phases else None,
            phase=release.phase if self._with_phases else None,
            file=file,
            sha256=hashlib.sha256(payload).hexdigest(),
        )
        with (self.directory / INDEX).open("a") as index:
            index.write(json.dumps(line.model_dump()) + "\n")
        self.heard.append(line)
        self._last[release.branch] = number
        return number

    def last(self, branch: int) -> int:
        """Id of the newest release of a branch."""
        return self._last[branch]


class Transcript:
    """A transcript on disk, read and verified release by release."""

    def __init__(self, directory: Path, heard: Sequence[TranscriptLine]) -> None:
        self.directory = directory
        self.heard = tuple(heard)

    @classmethod
    def open(cls, directory: Path) -> "Transcript":
        """Read the index.

        Raises:
            TranscriptError: there is no index, or a line of it is broken.
        """
        index = directory / INDEX
        if not index.is_symlink() and not index.exists():
            raise TranscriptError(f"{directory} is no transcript: it has no {INDEX}")
        try:
            lines = read_file(directory, INDEX, _MOST).decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise TranscriptError(f"{index} is no text: {error}") from None
        heard = [] if lines == [""] else [_line(index, number, line) for number, line in enumerate(lines)]
        return cls(directory, heard)

    def check(self, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> None:
        """Compare what every release claims to hold with an architecture, before any is loaded.

        Args:
            shapes: of its parameters, by name.
            dtype: of all of them.

        Raises:
            TranscriptError: a release is missing, is no safetensors file, or holds something else.
        """
        wanted = {name: ((dtype,), shape) for name, shape in shapes.items()}
        for line in self.heard:
            check_form(f"release {line.id} ({line.file})", form_of(self.directory, line.file), wanted)

    def load(self, number: int) -> Params:
        """Return the parameters of one release.

        Raises:
            TranscriptError: the file is missing, is not what was recorded, is no safetensors file, or holds numbers
                that are not finite.
        """
        line = self.heard[number]
        return read_arrays(self.directory, line.file, sha256=line.sha256)

    def until(self, number: int) -> list[TranscriptLine]:
        """A release and all on the way to it, oldest first."""
        lines, at = [], number if number < len(self.heard) else None
        while at is not None:
            lines.append(self.heard[at])
            at = self.heard[at].parent
        return lines[::-1]

    def place(self, number: int) -> Path:
        """The file of a release.

        Raises:
            TranscriptError: it is no regular file in the directory.
        """
        file = self.heard[number].file
        form_of(self.directory, file)
        return self.directory / file

    def branches(self) -> list[int]:
        """Branches in ascending order, the trunk included."""
        return sorted({line.branch for line in self.heard})

    def of_branch(self, branch: int) -> list[TranscriptLine]:
        """The lines of one branch, in order."""
        return [line for line in self.heard if line.branch == branch]

    def digest(self) -> str:
        """``sha256:...`` over name, dtype, shape and little-endian bytes of every release in (branch, index) order.

        Loads every release once, and so finds what is wrong with any of them.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.load(line.id) for line in sorted(self.heard, key=lambda line: (line.branch, line.id)))


def _line(index: Path, number: int, text: str) -> TranscriptLine:
    """Read one line of an index.

    Raises:
        TranscriptError: it is no release, or its id or parent is out of order.
    """
    where = f"{index}, line {number + 1},"
    try:
        line = TranscriptLine.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise TranscriptError(f"{where} {said(error)}") from None
    check_plain(f"{where} file", line.file)
    if line.id != number:
        raise TranscriptError(f"{where} has id {line.id} where {number} is due: ids count up from 0")
    if line.parent is not None and line.parent >= number:
        raise TranscriptError(f"{where} has parent {line.parent}; a release comes after its parent, so below {number}")
    return line


def rounded(value: Array, bits: int) -> Array:
    """Keep so many significant binary digits.

    Example:
        >>> rounded(np.array([1.0, 1.3, -100.0]), bits=2).tolist()
        [1.0, 1.5, -96.0]
    """
    mantissa, exponent = np.frexp(value)
    kept: Array = np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent).astype(value.dtype)
    return kept


def digest_of(models: Iterable[Params]) -> str:
    """SHA-256 over the models in order; holds no times, so that equal runs have equal digests.

    Example:
        >>> models = [{"bias": np.zeros(2)}, {"bias": np.ones(2)}]
        >>> digest_of(models) == digest_of(models), digest_of(models) == digest_of(models[::-1])
        (True, False)
    """
    total = hashlib.sha256()
    for params in models:
        for name in sorted(params):
            value = np.asarray(params[name])
            little = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"), copy=False))
            total.update(f"{name}|{value.dtype.name}|{value.shape}|".encode())
            total.update(little.tobytes())
    return f"sha256:{total.hexdigest()}"
