"""Transcripts in which less can be read: of deletions whose bracket nobody tells, and for strangers.

Where no bracket is told, each deletion is handed over by itself, as one stream of models without a mark. Alternative
deletions share the training before them: side by side, the first release in which they differ would tell
where each begins. So an attack is handed one after the other, and what it can tell of the bracket is in the models.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from palimpsest.simulator.world.protocols.knowledge import Facts, PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import INDEX, Transcript, TranscriptLine

NAME = "transcript"
"""Of a folder that is handed over, and of the scenario in it."""
_DURATIONS = frozenset({"rounds", "start_epochs", "shards"})
"""Public hyper-parameters of a training that say how many releases it has."""


def withheld(facts: Facts) -> bool:
    """Whether nobody says where the deletions begin."""
    return bool(facts.cases) and all(view.before is None for view in facts.cases)


def each_alone(directory: Path, known: PublicKnowledge) -> Iterator[Path]:
    """Yield a folder for each case of a transcript whose brackets are withheld; each is gone when the next one comes.

    Args:
        directory: of the transcript.
        known: what the adversary knows.

    Raises:
        TranscriptError: the transcript cannot be read.
    """
    transcript = Transcript.open(directory)
    for index in range(len(known.facts.cases)):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / NAME
            write_stream(transcript, known, index, folder)
            yield folder


def write_stream(transcript: Transcript, known: PublicKnowledge, index: int, folder: Path) -> None:
    """Write one case's stream: all that was heard until its last release, counted from 0, and what is known of it.

    The names of releases and of the scenario, and how long training and unlearning take, are left out.

    Args:
        transcript: with the releases of all cases.
        known: what the adversary knows.
        index: of the case.
        folder: to be made.

    Raises:
        TranscriptError: a release is missing.
    """
    view = known.facts.cases[index]
    (folder / "releases").mkdir(parents=True)
    lines = []
    for number, line in enumerate(transcript.until(view.after)):
        name = f"releases/{number:06d}.safetensors"
        shutil.copyfile(transcript.place(line.id), folder / name)
        parent = number - 1 if number else None
        marks = {"parent": parent, "branch": 0, "round": None, "phase": None}
        lines.append(line.model_copy(update={"id": number, "file": name, **marks}))
    (folder / INDEX).write_text("".join(json.dumps(line.model_dump()) + "\n" for line in lines))
    facts = known.facts.model_copy(
        update={
            "scenario": NAME,
            "training": {key: value for key, value in known.facts.training.items() if key not in _DURATIONS},
            "unlearning": _without_counts(known.facts.unlearning),
            "cases": (view.model_copy(update={"before": None, "after": len(lines) - 1}),),
        }
    )
    replace(known, facts=facts).save(folder)


def _without_counts(rule: Mapping[str, Any]) -> dict[str, Any]:
    """An unlearning rule without its integers: rounds, steps, epochs."""
    return {key: value for key, value in rule.items() if isinstance(value, bool) or not isinstance(value, int)}


def write_renamed(transcript: Transcript, known: PublicKnowledge, order: Sequence[int], folder: Path) -> None:
    """Write a transcript with its cases in another order: branches, releases and files are numbered in that order.

    Args:
        transcript: with the releases of all cases.
        known: what the adversary knows.
        order: indices of its cases, each once.
        folder: to be made.

    Raises:
        TranscriptError: a release is missing.
    """
    views = [known.facts.cases[index] for index in order]
    branches = dict.fromkeys([0, *(transcript.heard[view.after].branch for view in views), *transcript.branches()])
    (folder / "releases").mkdir(parents=True)
    numbers: dict[int | None, int | None] = {None: None}
    lines: list[TranscriptLine] = []
    for branch, old in enumerate(branches):
        for line in transcript.of_branch(old):
            number = len(lines)
            name = f"releases/{number:06d}.safetensors"
            shutil.copyfile(transcript.place(line.id), folder / name)
            marks = {"id": number, "parent": numbers[line.parent], "branch": branch, "file": name}
            numbers[line.id] = number
            lines.append(line.model_copy(update=marks))
    (folder / INDEX).write_text("".join(json.dumps(line.model_dump()) + "\n" for line in lines))
    renamed = [
        view.model_copy(update={key: numbers[getattr(view, key)] for key in ("before", "after")}) for view in views
    ]
    facts = known.facts.model_copy(update={"scenario": NAME, "cases": tuple(renamed)})
    replace(known, facts=facts).save(folder)
