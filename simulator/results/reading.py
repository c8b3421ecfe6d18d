"""JSON files of a run's directory: read, or refused with one sentence."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from palimpsest.simulator.results.upgrade import VERSION

_Read = TypeVar("_Read", bound=BaseModel)
_SHOWN = 80
"""Characters of a wrong value that a message repeats."""


class RunFilesError(ValueError):
    """What a run left is missing, broken, or of a version that is not read here."""


def content_of(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        RunFilesError: there is no such file, or something else in it.
    """
    if not path.is_file():
        there = "is no regular file" if os.path.lexists(path) else "is not there"
        raise RunFilesError(f"{path} {there}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunFilesError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise RunFilesError(f"{path} holds {type(content).__name__}, and an object is wanted")
    return content


def checked(entry: type[_Read], content: Any, path: Path) -> _Read:
    """The content of a file as its type has it.

    Raises:
        RunFilesError: it is something else.
    """
    try:
        return entry.model_validate(content)
    except ValidationError as error:
        raise RunFilesError(f"{path} does not follow schema {VERSION}: {fault(error)}") from None


def fault(error: ValidationError) -> str:
    """The first thing that is wrong: where, and what."""
    faults = error.errors(include_url=False)
    first, more = faults[0], len(faults) - 1
    place = ".".join(map(str, first["loc"]))
    what = "is missing" if first["type"] == "missing" else f"is {_short(first['input'])}: {_reason(first['msg'])}"
    return f"{place} {what}" + (f" (and {more} more)" if more else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _reason(message: str) -> str:
    """Pydantic's message as the rest of a sentence."""
    said = message.removeprefix("Value error, ")
    return said[:1].lower() + said[1:]
