"""What attacks answered, on disk: one safetensors file, ``<attack>/<field>`` arrays, with each attack's kind of answer.

A file from before kinds of answer had names is read by the fields that it has.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save

from palimpsest.simulator.world.files import write_atomically
from palimpsest.simulator.world.profile import Profile
from palimpsest.simulator.world.records import Array, Guess, Labels, Reconstruction, Scores

if TYPE_CHECKING:
    from palimpsest.attacks.session import Answer

_METADATA = "answers"
BUILT_IN: Mapping[str, type[Guess]] = {kind.name: kind for kind in (Reconstruction, Labels, Scores, Profile)}
"""Kinds of answer that can be read without another package."""


def save_answers(path: Path, answers: "Mapping[str, Answer]") -> None:
    """Write the guesses of every attack that made some, as their kind of answer packs them."""
    arrays: dict[str, Array] = {}
    names: dict[str, str] = {}
    for attack, answer in answers.items():
        if answer.guesses:
            kind = type(answer.guesses[0])
            packed = kind.pack(answer.guesses)
            arrays |= {f"{attack}/{field}": np.ascontiguousarray(value) for field, value in packed.items()}
            names[attack] = kind.name
    write_atomically(path, save(arrays, {_METADATA: json.dumps(names)}))


def answer_names(path: Path) -> dict[str, str]:
    """By attack, the name of the kind of answer that a file holds of it."""
    with safe_open(path, framework="numpy") as file:
        metadata, arrays = file.metadata() or {}, list(file.keys())
    if _METADATA in metadata:
        names: dict[str, str] = json.loads(metadata[_METADATA])
        return names
    fields: dict[str, set[str]] = {}
    for array in arrays:
        attack, _, field = array.rpartition("/")
        fields.setdefault(attack, set()).add(field)
    return {attack: _name_by_fields(given) for attack, given in fields.items()}


def load_answers(path: Path, kinds: Mapping[str, type[Guess]] = BUILT_IN) -> dict[str, list[Guess]]:
    """Read what ``save_answers`` wrote, by attack.

    Args:
        path: of the file.
        kinds: kinds of answer by name; a file with others needs those of other packages too.

    Raises:
        ValueError: the file holds a kind of answer that is not among ``kinds``.
    """
    names, arrays = answer_names(path), load_file(path)
    unknown = [f"{attack} answered with {name!r}" for attack, name in names.items() if name not in kinds]
    if unknown:
        raise ValueError(f"{path}: {', '.join(unknown)}; what can be read here is {', '.join(kinds)}")
    return {
        attack: list(kinds[name].unpack({field: arrays[f"{attack}/{field}"] for field in _fields_of(attack, arrays)}))
        for attack, name in names.items()
    }


def _fields_of(attack: str, arrays: Iterable[str]) -> list[str]:
    return [array.removeprefix(f"{attack}/") for array in arrays if array.startswith(f"{attack}/")]


def _name_by_fields(fields: set[str]) -> str:
    """The kind of answer of an attack in a file that does not name it."""
    if "deleted" in fields:
        return Scores.name
    return Labels.name if "evidence" in fields else Reconstruction.name
