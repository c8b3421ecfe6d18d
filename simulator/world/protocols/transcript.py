"""What the eavesdropper hears, in order, on disk: the only thing that leaves the federation for the adversary.

One append-only directory: ``releases.jsonl``, a line ``{id, parent, branch, round, phase, file, sha256}`` each, and one
safetensors file a release. Branch 0 is the trunk; another branch starts from the trunk release that is its first
parent.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.records import Array, Params, Release

_INDEX = "releases.jsonl"


@dataclass(frozen=True)
class Heard:
    """One line of the transcript.

    Attributes:
        id: position in the transcript.
        parent: id of the release before it in its branch, or the trunk release that the branch left; None at the start.
        round, phase: side information; None where the adversary is denied it (``knows_bracket = false``).
        file: of the parameters, relative to the transcript.
    """

    id: int
    parent: int | None
    branch: int
    round: int | None
    phase: str | None
    file: str
    sha256: str


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
        self.heard: list[Heard] = []
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
        line = Heard(
            id=number,
            parent=self._last.get(release.branch, parent),
            branch=release.branch,
            round=release.round if self._with_phases else None,
            phase=release.phase if self._with_phases else None,
            file=file,
            sha256=hashlib.sha256(payload).hexdigest(),
        )
        with (self.directory / _INDEX).open("a") as index:
            index.write(json.dumps(line.__dict__) + "\n")
        self.heard.append(line)
        self._last[release.branch] = number
        return number

    def last(self, branch: int) -> int:
        """Id of the newest release of a branch."""
        return self._last[branch]


class Transcript:
    """A transcript on disk, read and verified release by release."""

    def __init__(self, directory: Path, heard: Sequence[Heard]) -> None:
        self.directory = directory
        self.heard = tuple(heard)

    @classmethod
    def open(cls, directory: Path) -> "Transcript":
        """Read the index.

        Raises:
            TranscriptError: there is no index, or a line of it is broken.
        """
        index = directory / _INDEX
        if not index.is_file():
            raise TranscriptError(f"{directory} is no transcript: it has no {_INDEX}")
        try:
            heard = [Heard(**json.loads(line)) for line in index.read_text().splitlines()]
        except (json.JSONDecodeError, TypeError) as error:
            raise TranscriptError(f"{index} has a broken line: {error}") from None
        if [line.id for line in heard] != list(range(len(heard))):
            raise TranscriptError(f"{index} is incomplete: its ids do not count up from 0")
        return cls(directory, heard)

    def load(self, number: int) -> Params:
        """Return the parameters of one release.

        Raises:
            TranscriptError: the file is missing, is not what was recorded, or is no safetensors file.
        """
        line = self.heard[number]
        path = (self.directory / line.file).resolve()
        if not path.is_relative_to(self.directory.resolve()):
            raise TranscriptError(f"release {number} points outside its transcript: {line.file}")
        try:
            payload = path.read_bytes()
        except OSError as error:
            raise TranscriptError(f"release {number} cannot be read: {error}") from None
        if hashlib.sha256(payload).hexdigest() != line.sha256:
            raise TranscriptError(f"release {number} ({path}) is not what was recorded: its SHA-256 differs")
        try:
            params: Params = load_safetensors(payload)
        except SafetensorError as error:
            raise TranscriptError(f"release {number} ({path}) is no safetensors file: {error}") from None
        return params

    def branches(self) -> list[int]:
        """Branches in ascending order, the trunk included."""
        return sorted({line.branch for line in self.heard})

    def of_branch(self, branch: int) -> list[Heard]:
        """The lines of one branch, in order."""
        return [line for line in self.heard if line.branch == branch]

    def digest(self) -> str:
        """``sha256:...`` over name, dtype, shape and little-endian bytes of every release in (branch, index) order."""
        return digest_of(self.load(line.id) for line in sorted(self.heard, key=lambda line: (line.branch, line.id)))


def rounded(value: Array, bits: int) -> Array:
    """Keep so many significant binary digits."""
    mantissa, exponent = np.frexp(value)
    kept: Array = np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent).astype(value.dtype)
    return kept


def digest_of(models: Iterable[Params]) -> str:
    """SHA-256 over the models in order; holds no times, so that equal runs have equal digests."""
    total = hashlib.sha256()
    for params in models:
        for name in sorted(params):
            value = np.asarray(params[name])
            little = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"), copy=False))
            total.update(f"{name}|{value.dtype.name}|{value.shape}|".encode())
            total.update(little.tobytes())
    return f"sha256:{total.hexdigest()}"
