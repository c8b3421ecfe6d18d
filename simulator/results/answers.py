"""What attacks answered, on disk: one safetensors file, ``<attack>/<field>`` arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
from safetensors.numpy import load_file, save

from palimpsest.attacks.session import Answer
from palimpsest.simulator.world.files import write_atomically
from palimpsest.simulator.world.records import Array, Guess, Labels, Reconstruction, Scores

_NOTE = "note:"


def save_answers(path: Path, answers: Mapping[str, Answer]) -> None:
    """Write the guesses of every attack that made some.

    Reconstructions: ``x``, ``y``, ``case``, ``no_signal`` and notes, a row for each record. Labels: ``y`` and ``case``,
    a row for each record, and ``evidence`` and ``no_signal``, one for each case. Scores: ``deleted``, where given
    ``member_before`` and ``member_after``, ``case`` and ``no_signal``, a row for each case.
    """
    arrays: dict[str, Array] = {}
    for kind, answer in answers.items():
        packed = _packed(answer.guesses) if answer.guesses else {}
        arrays |= {f"{kind}/{field}": np.ascontiguousarray(value) for field, value in packed.items()}
    write_atomically(path, save(arrays))


def load_answers(path: Path) -> dict[str, list[Guess]]:
    """Read what ``save_answers`` wrote, by attack."""
    fields: dict[str, dict[str, Array]] = {}
    for name, value in load_file(path).items():
        kind, _, field = name.rpartition("/")
        fields.setdefault(kind, {})[field] = value
    return {kind: _unpacked(own) for kind, own in fields.items()}


def _packed(guesses: Sequence[Guess]) -> dict[str, Array]:
    if are_reconstructions(guesses):
        return _packed_records(guesses)
    if are_labels(guesses):
        return {
            "y": np.concatenate([one.y for one in guesses]),
            "case": np.repeat([one.case for one in guesses], [len(one.y) for one in guesses]),
            "evidence": np.stack([one.evidence for one in guesses]),
            "no_signal": np.array([one.no_signal for one in guesses]),
        }
    assert are_scores(guesses)
    found = {name: [getattr(one, name) for one in guesses] for name in ("deleted", "member_before", "member_after")}
    arrays = {name: np.stack(values) for name, values in found.items() if values[0] is not None}
    signs = np.array([one.no_signal for one in guesses])
    return {**arrays, "case": np.array([one.case for one in guesses]), "no_signal": signs}


def _packed_records(found: Sequence[Reconstruction]) -> dict[str, Array]:
    sizes = [len(one.y) for one in found]
    arrays = {
        "x": np.concatenate([one.x for one in found]),
        "y": np.concatenate([one.y for one in found]),
        "case": np.repeat([one.case for one in found], sizes),
        "no_signal": np.repeat([one.no_signal for one in found], sizes),
    }
    for note in dict.fromkeys(name for one in found for name in one.notes):
        arrays[f"{_NOTE}{note}"] = np.repeat([one.notes.get(note, np.nan) for one in found], sizes)
    return arrays


def _unpacked(fields: Mapping[str, Array]) -> list[Guess]:
    cases = fields["case"]
    if "deleted" in fields:
        given = [name for name in ("deleted", "member_before", "member_after") if name in fields]
        return [
            Scores(case=int(case), no_signal=bool(fields["no_signal"][i]), **{name: fields[name][i] for name in given})
            for i, case in enumerate(cases)
        ]
    starts = np.flatnonzero(np.diff(cases, prepend=cases[0] - 1))
    spans = [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(cases)], strict=True)]
    if "evidence" in fields:
        return [
            Labels(int(cases[span.start]), fields["y"][span], fields["evidence"][i], bool(fields["no_signal"][i]))
            for i, span in enumerate(spans)
        ]
    notes = {name.removeprefix(_NOTE): values for name, values in fields.items() if name.startswith(_NOTE)}
    return [
        Reconstruction(
            case=int(cases[span.start]),
            x=fields["x"][span],
            y=fields["y"][span],
            no_signal=bool(fields["no_signal"][span.start]),
            notes={name: float(v[span.start]) for name, v in notes.items() if not np.isnan(v[span.start])},
        )
        for span in spans
    ]


def are_reconstructions(guesses: Sequence[Guess]) -> TypeGuard[Sequence[Reconstruction]]:
    """Whether an attack answered with records."""
    return all(isinstance(one, Reconstruction) for one in guesses)


def are_labels(guesses: Sequence[Guess]) -> TypeGuard[Sequence[Labels]]:
    """Whether an attack answered with classes."""
    return all(isinstance(one, Labels) for one in guesses)


def are_scores(guesses: Sequence[Guess]) -> TypeGuard[Sequence[Scores]]:
    """Whether an attack answered with a score for each record of the challenge."""
    return all(isinstance(one, Scores) for one in guesses)
