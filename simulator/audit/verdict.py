"""What an audit says: of each attack, and of the deletion."""

from collections.abc import Mapping, Sequence
from typing import Any

from palimpsest.simulator.audit.results import AuditedAttack
from palimpsest.simulator.results.verdicts import BASELINES
from palimpsest.simulator.world.records import Guess

_BACK, _PART = (0.9, 0.8), (0.0, 0.3)
"""Median cosine, raw and centred, from which one sees the record itself, or some of it."""
_EXPLAINED = 0.9
"""Share of the change from which records explain it, so that it is worth looking at them."""


def sentence(
    name: str, guess: Guess, lines: Sequence[str], share: float | None, figures: Mapping[str, Any] | None
) -> str:
    """What one attack gives back.

    Args:
        name: of the attack.
        guess: its answer.
        lines: the answer in words.
        share: see ``explained``; None for answers that are no records.
        figures: its scores, where the truth is given.
    """
    if guess.no_signal:
        return f"{name} finds no signal and falls back on the public sample"
    shown_lines = "; ".join(line.removeprefix("deletion 0")[2:] for line in lines[:4]) + (
        "; ..." if len(lines) > 4 else ""
    )
    told = "" if share is None else f", which explains {100 * share:.1f} % of the change"
    if figures is None:
        return f"{name} found {shown_lines or 'an answer'}{told} (unscored)"
    return f"{name} found {shown_lines or 'an answer'}{told}: {_scored(figures)}"


def _scored(figures: Mapping[str, Any]) -> str:
    if "cosine_median" not in figures:
        shown = {key: value for key, value in figures.items() if isinstance(value, float) and key != "seconds"}
        return ", ".join(f"{key.replace('_', ' ')} {value:.2f}" for key, value in list(shown.items())[:3])
    raw, centred = figures["cosine_median"], figures["cosine_centred_median"]
    return f"{_grade(figures)}, cosine {raw:.2f}, centred {centred:.2f}"


def _grade(figures: Mapping[str, Any]) -> str:
    raw, centred = figures["cosine_median"], figures["cosine_centred_median"]
    if raw >= _BACK[0] and centred >= _BACK[1]:
        return "the record comes back" if figures["n"] == 1 else "the records come back"
    return "a part comes back" if raw >= _PART[0] and centred >= _PART[1] else "nothing comes back"


def verdict(attempts: Mapping[str, AuditedAttack], known: bool, silent: bool) -> str:
    """One sentence on the deletion.

    Args:
        attempts: by attack.
        known: whether they were scored.
        silent: whether the two models are equal.
    """
    if silent:
        return "Nothing to read: the two models are equal."
    tried = {name: attempt for name, attempt in attempts.items() if name not in BASELINES}
    records = {name: attempt for name, attempt in (tried or attempts).items() if attempt.explained is not None}
    if not records:
        return f"No attack that answers with records was run; {len(attempts)} others were."
    if known:
        best = max(records, key=lambda name: float((records[name].figures or {})["cosine_centred_median"]))
        floor = attempts["average"].figures if "average" in attempts else None
        against = "" if floor is None else f", against {floor['cosine_median']:.2f} for the public mean"
        return f"By {best}, {_scored(records[best].figures or {})}{against}."
    best = max(records, key=lambda name: records[name].explained or 0.0)
    share = records[best].explained or 0.0
    how = "explains the change" if share >= _EXPLAINED else "does not explain the change: little or nothing comes back"
    return f"Unscored, as no truth is given: what {best} found {how} ({100 * share:.1f} %)."
