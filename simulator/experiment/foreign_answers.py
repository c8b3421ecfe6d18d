"""Answers that a stranger wrote: one sentence where they are none to the cases that were asked."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from palimpsest.simulator.attack_metrics.answers import answer_card, names
from palimpsest.simulator.world.errors import RunFailure, TranscriptError
from palimpsest.simulator.world.profile import Profile
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.strict import check_plain, read_arrays, shown
from palimpsest.simulator.world.records import Guess, Labels, Reconstruction, Scores

_METADATA = "answers"
"""Entry of the file's metadata: JSON, the kind of answer by the attack's name."""


def read_answers(path: Path, known: PublicKnowledge, sizes: Sequence[int]) -> dict[str, list[Any]]:
    """Read one answer a case for every attack in a file.

    Args:
        path: safetensors file, ``<attack>/<field>`` arrays, as ``palimpsest attack`` writes it.
        known: of the transcript.
        sizes: how many records were deleted in each case.

    Raises:
        TranscriptError: it is no such file, or holds no answer to each case.
    """
    arrays, kinds = read_arrays(path.parent, path.name, gaps="/note:"), _kinds(path)
    found: dict[str, list[Any]] = {}
    for attack, kind in kinds.items():
        where = f"{path}: answers of {shown(attack)}"
        own = f"{attack}/"
        fields = {key.removeprefix(own): value for key, value in arrays.items() if key.startswith(own)}
        try:
            guesses: list[Any] = answer_card(kind).answer.unpack(fields)
        except (LookupError, ValueError, TypeError, RunFailure) as error:
            raise TranscriptError(f"{where} are no {shown(kind)!r} answers: {shown(str(error))}") from None
        cases = [guess.case for guess in guesses]
        if sorted(cases) != list(range(len(sizes))):
            raise TranscriptError(f"{where} are to the cases {shown(cases)}; there are {len(sizes)}, from 0, each once")
        for guess in guesses:
            _check(f"{where}, case {guess.case}", guess, known, sizes[guess.case])
        found[attack] = guesses
    return found


def _kinds(path: Path) -> dict[str, str]:
    """The kind of answer by the attack's name."""
    with safe_open(path, framework="numpy") as file:
        text = (file.metadata() or {}).get(_METADATA, "")
    try:
        kinds = json.loads(text)
    except (ValueError, RecursionError):
        kinds = None
    right = isinstance(kinds, dict) and kinds and all(isinstance(kind, str) for kind in kinds.values())
    if not right:
        raise TranscriptError(
            f"{path} does not say whose answers it holds: its metadata must have {_METADATA!r}, JSON with the kind "
            f"({', '.join(names())}) by the attack's name"
        )
    check_plain(f"{path}: metadata", kinds)
    return dict(kinds)


def _check(where: str, guess: Guess, known: PublicKnowledge, size: int) -> None:
    """Raise TranscriptError where an answer has another form than what is asked."""
    for name, shape in _shapes(guess, known, size).items():
        value = getattr(guess, name)
        if value is not None and np.shape(value) != shape:
            raise TranscriptError(f"{where}: {name} has shape {list(np.shape(value))}; it must be {list(shape)}")


def _shapes(guess: Guess, known: PublicKnowledge, size: int) -> Mapping[str, tuple[int, ...]]:
    schema = known.facts.schema_
    if isinstance(guess, Reconstruction):
        return {"x": (size, schema.width), "y": (size,)}
    if isinstance(guess, Labels):
        return {"y": (size,), "evidence": (schema.outputs,)}
    if isinstance(guess, Profile):
        return {"counts": (schema.outputs,), "means": (schema.outputs, schema.width), "columns": guess.columns.shape}
    if isinstance(guess, Scores):
        entries = 0 if known.challenge is None else len(known.challenge.y)
        return dict.fromkeys(("deleted", "member_before", "member_after", "retained"), (entries,))
    return {}
