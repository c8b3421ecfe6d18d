"""Hashes by which a run that is resumed or reported tells what it wrote itself from what was changed since.

They find mistakes and broken disks. They are no defence against somebody who computes them anew.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SEAL = "seal"
"""Key of an arm's file under which its hashes stand."""
_FREE = {"tracking": None, "runtime": ("hosts", "ray_address", "backend")}
"""Of a scenario, what changes no bit of the outcome: whole sections, or some of their keys."""
_CHUNK = 1 << 20


def scenario_digest(content: Mapping[str, Any]) -> str:
    """Digest of what decides about the outcome in a resolved scenario: where it runs and is tracked may change.

    Args:
        content: of ``scenario.toml``.
    """
    kept: dict[str, Any] = {}
    for section, value in content.items():
        free = _FREE.get(section, ())
        if free is None:
            continue
        kept[section] = {k: v for k, v in value.items() if k not in free} if isinstance(value, Mapping) else value
    return text_digest(json.dumps(kept, sort_keys=True, default=str))


def text_digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(entry: Mapping[str, Any], scenario: str, files: Mapping[str, str]) -> dict[str, Any]:
    """An arm's entry with its seal.

    Args:
        entry: of the arm, in plain values.
        scenario: digest of the scenario that the run was begun with; empty: it has none.
        files: digest of every other file of the arm, by name.
    """
    seal = {"scenario": scenario, "files": dict(files), "content": _content(entry)}
    return {**entry, SEAL: seal}


def fault_of(entry: Mapping[str, Any], scenario: str, files: Mapping[str, str]) -> str:
    """What contradicts an entry's seal, as the end of a sentence; empty: nothing does.

    Args:
        entry: as ``sealed`` made it.
        scenario: digest of the scenario that the run was begun with.
        files: digests of the arm's other files as they are now.
    """
    seal = entry.get(SEAL)
    if not isinstance(seal, Mapping) or not isinstance(seal.get("files"), Mapping):
        return "has no seal"
    if seal.get("content") != _content({key: value for key, value in entry.items() if key != SEAL}):
        return "was changed since it was written"
    if seal.get("scenario") != scenario:
        return "is of another scenario"
    before = seal["files"]
    for name in sorted({*before, *files}):
        if before.get(name) != files.get(name):
            return f"does not belong to {name}, which {'was changed' if name in files else 'is gone'}"
    return ""


def file_digest(path: Path) -> str:
    """SHA-256 of a regular file; ``no file`` of anything else, which is not read."""
    if not path.is_file():
        return "no file"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def folder_digest(path: Path) -> str:
    """SHA-256 of the names and contents of all files below a folder."""
    return text_digest("\n".join(f"{name} {file_digest(path / name)}" for name in sorted(_names(path))))


def _names(path: Path) -> Iterator[str]:
    return (str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir())


def _content(entry: Mapping[str, Any]) -> str:
    return text_digest(json.dumps(entry, sort_keys=True))
