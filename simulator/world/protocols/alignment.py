"""Where an unlearning begins, and which releases of it and of the training have as many rounds behind them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np

from palimpsest.simulator.world.protocols.transcript import Transcript, TranscriptLine
from palimpsest.simulator.world.records import Params

_LEAP = 3.0
"""How many times as long as the step before it one must be to be taken for the leap back to a start."""


class Releases(Sequence[Params]):
    """Models of a transcript, each loaded when it is asked for."""

    def __init__(self, load: Callable[[int], Params], numbers: Sequence[int]) -> None:
        self._load = load
        self._numbers = tuple(numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, position: int) -> Params: ...
    @overload
    def __getitem__(self, position: slice) -> "Releases": ...
    def __getitem__(self, position: int | slice) -> "Params | Releases":
        """One model, or some of them."""
        if isinstance(position, slice):
            return Releases(self._load, self._numbers[position])
        return self._load(self._numbers[position])


def aligned(transcript: Transcript, before: int, unlearning: Sequence[int]) -> tuple[list[int], list[int]]:
    """Pair the releases of an unlearning with what had been heard at the same rounds until it began.

    Of several releases of one round the newest counts: in a chain of deletions the last retraining, not the first
    training. Where no rounds are written down, the sequences are laid on each other where a release of the
    unlearning is a release of the training, bit for bit, or else so that they end together.

    Args:
        transcript: what was heard.
        before: id of the last release before the unlearning.
        unlearning: ids of its releases, oldest first.

    Returns:
        ids of the training and of the unlearning, equally many, oldest first.
    """
    past = [line for line in transcript.until(before) if line.phase != "working"]
    future = [line for number in unlearning if (line := transcript.heard[number]).phase != "working"]
    if any(line.round is None for line in (*past, *future)):
        return _by_content(past, future)
    newest = {line.round: line.id for line in past}
    latest = {line.round: line.id for line in future}
    rounds = [number for number in latest if number in newest]
    return [newest[number] for number in rounds], [latest[number] for number in rounds]


def preceding(transcript: Transcript, before: int, trunk: Sequence[int]) -> list[int]:
    """The releases that led to the first one of an aligned training, one for each round, the newest of it.

    Args:
        transcript: what was heard.
        before: id of the last release before the unlearning.
        trunk: ids as ``aligned`` returns them.

    Returns:
        ids, oldest first.
    """
    if not trunk:
        return []
    past = [line for line in transcript.until(before) if line.phase != "working"]
    first = transcript.heard[trunk[0]].round
    if first is None or any(line.round is None for line in past):
        ids = [line.id for line in past]
        return ids[: ids.index(trunk[0])]
    newest = {line.round: line.id for line in past if line.round is not None and line.round < first}
    return [newest[number] for number in sorted(newest)]


def located(stream: Sequence[TranscriptLine], load: Callable[[int], Params]) -> int:
    """Tell where an unlearning begins by the models alone; return the position of the last one before it.

    A retraining begins where a model comes again that had been left, bit for bit; or, where it starts afresh, with a
    step more than three times as long as the one before it. Where there is neither, the last release is taken for all
    of it.

    Args:
        stream: all that was heard, at least two releases, oldest first.
        load: a model by its id.
    """
    seen = {stream[0].sha256}
    for position in range(1, len(stream)):
        if stream[position].sha256 in seen and stream[position].sha256 != stream[position - 1].sha256:
            return position - 1
        seen.add(stream[position].sha256)
    steps = list(_steps(stream, load))
    leaps = [(step / last, position) for position, (last, step) in enumerate(pairwise(steps), 1) if last > 0]
    leap, position = max(leaps, default=(0.0, 0))
    return position if leap > _LEAP else len(stream) - 2


def _steps(stream: Sequence[TranscriptLine], load: Callable[[int], Params]) -> Iterator[float]:
    """How far each model is from the one before it."""
    last = load(stream[0].id)
    for line in stream[1:]:
        model = load(line.id)
        yield float(np.sqrt(sum(((model[name].astype(np.float64) - last[name]) ** 2).sum() for name in last)))
        last = model


def _by_content(past: Sequence[TranscriptLine], future: Sequence[TranscriptLine]) -> tuple[list[int], list[int]]:
    """Lay the sequences on each other where they are equal, or at their ends."""
    places = {line.sha256: position for position, line in enumerate(past)}
    shift = len(past) - len(future)
    for position, line in enumerate(future):
        if line.sha256 in places:
            shift = places[line.sha256] - position
            break
    pairs = [(past[i + shift].id, line.id) for i, line in enumerate(future) if 0 <= i + shift < len(past)]
    return [kept for kept, _ in pairs], [gone for _, gone in pairs]
