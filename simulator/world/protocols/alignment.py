"""Which releases of a training and of an unlearning belong together: those with as many rounds behind them."""

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from palimpsest.simulator.world.protocols.transcript import Heard, Transcript
from palimpsest.simulator.world.records import Params


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
    past = [line for line in _ancestors(transcript, before) if line.phase != "working"][::-1]
    future = [line for number in unlearning if (line := transcript.heard[number]).phase != "working"]
    if any(line.round is None for line in (*past, *future)):
        return _by_content(past, future)
    newest = {line.round: line.id for line in past}
    latest = {line.round: line.id for line in future}
    rounds = [number for number in latest if number in newest]
    return [newest[number] for number in rounds], [latest[number] for number in rounds]


def _ancestors(transcript: Transcript, number: int) -> Iterator[Heard]:
    """A release and all before it, newest first."""
    at: int | None = number
    while at is not None:
        line = transcript.heard[at]
        yield line
        at = line.parent


def _by_content(past: Sequence[Heard], future: Sequence[Heard]) -> tuple[list[int], list[int]]:
    """Lay the sequences on each other where they are equal, or at their ends."""
    places = {line.sha256: position for position, line in enumerate(past)}
    shift = len(past) - len(future)
    for position, line in enumerate(future):
        if line.sha256 in places:
            shift = places[line.sha256] - position
            break
    pairs = [(past[i + shift].id, line.id) for i, line in enumerate(future) if 0 <= i + shift < len(past)]
    return [kept for kept, _ in pairs], [gone for _, gone in pairs]
