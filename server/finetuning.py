"""Rounds that nobody hears between an unlearning and its release."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, Unlearner, UnlearningCase


def unlearned(
    unlearner: Unlearner, history: History, cases: Sequence[UnlearningCase], federation: Federation, rounds: int
) -> Iterator[Outcome]:
    """What an unlearning lets out: everything; or, where ordinary rounds follow it, the last of them alone.

    What the method reported of itself goes with that one.
    """
    outcomes = unlearner.unlearn(history, cases, federation)
    if rounds == 0:
        yield from outcomes
        return
    last: dict[int, Outcome] = {}
    notes: dict[int, dict[str, float]] = {case.branch: {} for case in cases}
    for outcome in outcomes:
        notes[outcome.release.branch] |= outcome.notes
        if outcome.release.phase != "working":
            last[outcome.release.branch] = outcome
    starts = [last[case.branch].release.params for case in cases]
    for outcome in history.retrainer.recover(cases, starts, rounds):
        last[outcome.release.branch] = outcome
    for case in cases:
        yield replace(last[case.branch], notes=notes[case.branch])
