"""The adversary at the command line: a transcript and public knowledge in, answers out, no ground truth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from palimpsest.attacks.session import Answer, attack_transcript
from palimpsest.simulator.attack_metrics.answers import answer_card
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.results.answers import save_answers
from palimpsest.simulator.scenario.entries import expand, resolve
from palimpsest.simulator.scenario.load import ScenarioError
from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import Transcript
from palimpsest.simulator.world.records import Guess
from palimpsest.simulator.world.specs import Schema

_SHADES = " .:-=+*#%@"
_SHOWN = 4
_SMALL = 20


def attack(transcript: Path, attacks: Sequence[str], knowledge: Path | None, out: Path, console: Console) -> list[Path]:
    """Attack a transcript, show the first answers, and write all of them.

    Args:
        transcript: directory of one arm's transcript.
        attacks: names.
        knowledge: ``knowledge.json``; the one beside the releases where not given.
        out: safetensors file to write; for images, a gallery is drawn beside it.
        console: is shown the answers.

    Raises:
        ScenarioError: there is no such attack, or it does not work on this model.
        TranscriptError: transcript or knowledge cannot be read.
    """
    methods = [method for name in attacks for method in expand("attack", resolve("attack", "--attack", {"kind": name}))]
    Transcript.open(transcript)  # what is wrong with it is said before what is wrong with the knowledge
    known = PublicKnowledge.open(knowledge or transcript / "knowledge.json")
    try:
        with one_thread():  # as in a run, to whose bits its answers are equal
            answers = attack_transcript(transcript, methods, known)
    except TranscriptError:
        raise
    except ValueError as error:
        raise ScenarioError(str(error)) from None
    schema = known.facts.schema_
    for kind, answer in answers.items():
        console.print(f"\n{kind}: {_headline(answer)}")
        _show(answer.guesses, schema, console)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_answers(out, answers)
    written = [out]
    images = {kind: np.concatenate(x) for kind, answer in answers.items() if (x := _records(answer.guesses))}
    if schema.is_image and images:
        written.append(_gallery(images, schema, out.with_suffix(".png")))
    return written


def _gallery(images: Mapping[str, NDArray[np.float64]], schema: Schema, file: Path) -> Path:
    """Draw the answers. What draws takes as long to load as PyTorch, so it is loaded where something is drawn."""
    import matplotlib as mpl

    from palimpsest.simulator.figures.gallery import draw_answers
    from palimpsest.simulator.figures.style import STYLE, save

    with mpl.rc_context(STYLE):
        return save(draw_answers(images, schema.shape), file)


def _records(guesses: Sequence[Guess]) -> list[NDArray[np.float64]]:
    """``[k, d]`` records of each answer; empty where answers hold none."""
    records_of = [answer_card(guess.name).records(guess) for guess in guesses]
    return [records for records in records_of if records is not None]


def _headline(answer: Answer) -> str:
    """How many deletions, at what cost, and how many of them changed nothing."""
    silent, count, cost = sum(guess.no_signal for guess in answer.guesses), len(answer.guesses), answer.cost
    note = f"; {silent} without a signal, where it falls back on the public sample" if silent else ""
    asked = "" if cost.queries is None else f" and {cost.queries:,} queries"
    return f"{count} deletion{'s' * (count != 1)} in {cost.seconds:.2f} s{asked}{note}"


def _show(guesses: Sequence[Guess], schema: Schema, console: Console) -> None:
    """The first few answers: a line each, and records as characters side by side (images) or as values (tables)."""
    lines = [line for guess in guesses for line in answer_card(guess.name).lines(guess, schema)][:_SHOWN]
    records = [record for of_case in _records(guesses) for record in of_case][:_SHOWN]
    if not records:
        for line in lines:
            console.print(Text(line))
        return
    if not schema.is_image:
        names = schema.feature_names or [f"column {k}" for k in range(schema.width)]
        for line, record in zip(lines, records, strict=True):
            values = ", ".join(f"{name} {value:+.2f}" for name, value in zip(names, record, strict=True))
            console.print(Text(f"{line}: {values}"))
        return
    pictures = [drawn(record, schema.shape) for record in records]
    width = max(len(text) for text in [*lines, *(row for picture in pictures for row in picture)]) + 2
    fit = max(1, console.width // width)
    for begin in range(0, len(pictures), fit):
        chosen = slice(begin, begin + fit)
        console.print(Text("".join(line.ljust(width) for line in lines[chosen])))
        for rows in zip(*pictures[chosen], strict=True):
            console.print(Text("".join(row.ljust(width) for row in rows)))


def drawn(record: NDArray[np.float64], shape: tuple[int, ...]) -> list[str]:
    """An image as lines of characters, dark to light, in about its proportions (a character is twice as high as wide).

    A character stands for two rows of one column; of a small image, a pixel is two characters.
    """
    image: NDArray[Any] = np.clip(record, 0.0, 1.0).reshape(shape).mean(axis=0)
    if image.shape[1] < _SMALL:
        rows = np.repeat(image, 2, axis=1)
    else:
        even = np.concatenate([image, image[-1:]]) if image.shape[0] % 2 else image
        rows = (even[0::2] + even[1::2]) / 2
    levels = np.minimum((rows * len(_SHADES)).astype(int), len(_SHADES) - 1)
    return ["".join(_SHADES[level] for level in row) for row in levels]
