"""The figure of an audit: what attacks found, beside the deleted records where those are known."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np

from palimpsest.attacks.session import Answer
from palimpsest.simulator.attack_metrics.answers import answer_card
from palimpsest.simulator.attack_metrics.card import Truth
from palimpsest.simulator.attack_metrics.measures.measure import unit
from palimpsest.simulator.attack_metrics.score import AttackScore
from palimpsest.simulator.figures.gallery import COLUMNS, Gallery, Row, draw_answers, draw_images, draw_values
from palimpsest.simulator.figures.style import STYLE, save
from palimpsest.simulator.world.assignment import assigned
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array


def draw(
    path: Path,
    answers: Mapping[str, Answer],
    marks: Mapping[str, AttackScore],
    truth: Truth | None,
    known: PublicKnowledge,
    title: str,
) -> None:
    """Draw the records that attacks found into ``path``; nothing where there are none, or no truth for a table's."""
    schema = known.facts.schema_
    records = {name: x for name, answer in answers.items() if (x := _records(answer)) is not None}
    if not records or (truth is None and not schema.is_image):
        return
    with mpl.rc_context(STYLE):
        if truth is None:
            save(draw_answers(records, schema.shape), path)
            return
        count = min(COLUMNS, len(truth.x))
        rows = tuple(_row(name, x, marks[name], truth, count) for name, x in records.items())
        shown = Gallery(truth.x[:count], rows)
        detail = "Under each answer its cosine similarity to the deleted record."
        if schema.is_image:
            save(draw_images(shown, schema.shape, title, detail), path)
        else:
            names = schema.feature_names or [f"column {k}" for k in range(schema.width)]
            detail = "Rings: the deleted record. Dots: what the attack answered."
            save(draw_values(shown, names, title, detail), path)


def _records(answer: Answer) -> Array | None:
    guess = answer.guesses[0]
    records: Array | None = answer_card(guess.name).records(guess)
    return records


def _row(name: str, x: Array, scored: AttackScore, truth: Truth, count: int) -> Row:
    """One attack's answers in the order of the records, as they were matched when they were scored."""
    order = assigned(unit(truth.x) @ unit(x).T)
    captions = tuple(f"{cosine:.2f}" for cosine in scored.frame.sort_values("target")["cosine"][:count])
    return Row("", name, np.asarray(x[order][:count], np.float64), captions)
