"""Reading files that a stranger wrote: what they claim is compared with what they are before memory is taken for it."""

import hashlib
import os
import stat
from collections.abc import Mapping
from math import prod
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from palimpsest.simulator.world.errors import TranscriptError, printable
from palimpsest.simulator.world.records import Array

_MOST = 1 << 31
"""Of one file of arrays."""

_HEADER = 1 << 22
"""Bytes of one safetensors header, at most."""
_SHOWN = 60
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class _Tensor(BaseModel):
    """One entry of a safetensors header."""

    model_config = ConfigDict(frozen=True, strict=True)

    dtype: Literal["F32", "F64", "I64", "I32", "U8", "BOOL"]
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    data_offsets: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]

    @property
    def numpy(self) -> str:
        """NumPy's name of the dtype."""
        return _NAMES[self.dtype]


_NAMES = {"F32": "float32", "F64": "float64", "I64": "int64", "I32": "int32", "U8": "uint8", "BOOL": "bool"}
_Header = TypeAdapter(dict[str, _Tensor | dict[str, str]])

Form = Mapping[str, tuple[str, tuple[int, ...]]]
"""NumPy's name of the dtype, and the shape, of every array of a file."""


def read_file(directory: Path, name: str, most: int) -> bytes:
    """Return what a regular file inside ``directory`` holds.

    Args:
        directory: what the file must not leave; may itself be a link.
        name: relative to it.
        most: bytes that the file may hold.

    Raises:
        TranscriptError: there is no such file, it is no regular one, or it is larger.
    """
    with _opened(directory, name) as file:
        return _content(file, f"{directory / name}", most)


def read_arrays(directory: Path, name: str, sha256: str | None = None, gaps: str | None = None) -> dict[str, Array]:
    """Return the arrays of a safetensors file, all of them finite.

    Args:
        directory, name: as for ``read_file``.
        sha256: of its bytes, where that is known.
        gaps: part of the names of arrays in which a NaN stands for nothing.

    Raises:
        TranscriptError: as ``read_file`` and ``form_of``, it is another file than was recorded, or there is a NaN or
            an infinity in it.
    """
    path = directory / name
    form_of(directory, name)
    payload = read_file(directory, name, _MOST)
    if sha256 is not None and hashlib.sha256(payload).hexdigest() != sha256:
        raise TranscriptError(f"{path} is not what was recorded: its SHA-256 differs")
    try:
        arrays: dict[str, Array] = load(payload)
    except SafetensorError as error:
        raise TranscriptError(f"{path} is no safetensors file: {error}") from None
    for key, value in arrays.items():
        if not np.isfinite(value).all() and (gaps is None or gaps not in key):
            raise TranscriptError(f"{path}: {shown(key)} holds a NaN or an infinity; numbers must be finite")
    return arrays


def form_of(directory: Path, name: str) -> Form:
    """Return dtype and shape of every array of a safetensors file; reads the header alone.

    Raises:
        TranscriptError: there is no such file, or its header does not fit its size.
    """
    path = directory / name
    with _opened(directory, name) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, _HEADER):
            raise TranscriptError(f"{path} is no safetensors file: its header does not fit its {size} bytes")
        text = file.read(length)
    try:
        entries = _Header.validate_json(text)
    except ValidationError as error:
        raise TranscriptError(f"{path} is no safetensors file that is read here: its header {said(error)}") from None
    tensors = {key: entry for key, entry in entries.items() if isinstance(entry, _Tensor)}
    end = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, stop = tensor.data_offsets
        bytes_of = prod(tensor.shape) * np.dtype(tensor.numpy).itemsize
        if begin != end or stop - begin != bytes_of:
            raise TranscriptError(
                f"{path}: {shown(key)} is said to be {tensor.dtype} of shape {_shape(tensor.shape)}, {bytes_of} bytes, "
                f"and to stand at bytes {begin} to {stop}, which disagrees"
            )
        end = stop
    if end != size - 8 - length:
        raise TranscriptError(f"{path} holds {size - 8 - length} bytes of numbers where its header has {end}")
    return {key: (tensor.numpy, tensor.shape) for key, tensor in tensors.items()}


def check_form(where: str, form: Form, wanted: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]]) -> None:
    """Compare arrays with what they have to be.

    Args:
        where: named in the error.
        form: as ``form_of`` returned it.
        wanted: dtypes that are accepted and shape, by name.

    Raises:
        TranscriptError: a name is missing or unknown, or a dtype or shape is another.
    """
    if form.keys() != wanted.keys():
        names = ", ".join(map(shown, sorted(form)[:8])) or "nothing"
        raise TranscriptError(f"{where} holds {names}; it must hold {', '.join(sorted(wanted))}")
    for name, (dtypes, shape) in wanted.items():
        dtype, got = form[name]
        if dtype not in dtypes or got != shape:
            raise TranscriptError(
                f"{where}: {name} is {dtype} of shape {_shape(got)}; it must be {' or '.join(dtypes)} of shape "
                f"{_shape(shape)}"
            )


def shown(value: object) -> str:
    """A stranger's value as it may be shown on a terminal: shortened, and without control characters."""
    text = value if isinstance(value, str) else repr(value)
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return printable(cut)


def said(error: ValidationError) -> str:
    """The first thing that is wrong, as the rest of a sentence that begins with what it is wrong with."""
    first = error.errors(include_url=False)[0]
    place = shown(".".join(str(part) for part in first["loc"]))
    if first["type"] == "missing":
        return f"lacks {place}, which must be given"
    given = "" if isinstance(first["input"], dict | list | BaseModel) else f" = {shown(first['input'])}"
    return f"has {place or 'a value'}{given}: {printable(first['msg'])}"


def check_plain(where: str, value: Any) -> None:
    """Refuse strings with control characters and numbers that are not finite, anywhere in plain values.

    Raises:
        TranscriptError: says where.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            check_plain(where, key)
            check_plain(f"{where}.{shown(key)}", inner)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            check_plain(f"{where}.{position}", inner)
    elif isinstance(value, str) and printable(value) != value:
        raise TranscriptError(f"{where} = {shown(value)}: text must hold no control characters")
    elif isinstance(value, float) and not np.isfinite(value):
        raise TranscriptError(f"{where} = {value}: numbers must be finite")


def _opened(directory: Path, name: str) -> BinaryIO:
    """Open a regular file inside a directory, and nothing that a link leads to."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or "\0" in name:
        raise TranscriptError(f"{directory} names the file {shown(name)}: it must be inside the directory")
    at = directory
    try:
        for position, part in enumerate(relative.parts):
            at = at / part
            mode, last = at.lstat().st_mode, position == len(relative.parts) - 1
            if not (stat.S_ISREG(mode) if last else stat.S_ISDIR(mode)):
                kind = next((said for is_kind, said in _KINDS if is_kind(mode)), "a file")
                raise TranscriptError(f"{at} is {kind}; it must be a {'regular file' if last else 'directory'}")
        descriptor = os.open(at, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TranscriptError(f"{at} cannot be read: {error.strerror}") from None
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise TranscriptError(f"{at} is no regular file")
    return file


def _content(file: BinaryIO, where: str, most: int) -> bytes:
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise TranscriptError(f"{where} has {size} bytes; at most {most} are read")
    content = file.read(size)
    if len(content) != size:
        raise TranscriptError(f"{where} has been cut short while it was read")
    return content


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
