"""Which of a user's candidate records the releases single out: beside public ones, of which nobody deleted any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palimpsest.attacks.session import Answer
from palimpsest.simulator.attack_metrics.card import Truth
from palimpsest.simulator.attack_metrics.challenge import Status
from palimpsest.simulator.audit.results import AuditedAttack, Candidate
from palimpsest.simulator.results.intervals import share_interval
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.world.data.public_file import PublicSample, read_like
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array, Challenge, Scores

MISTAKES = 0.05
"""How often an audit may single out a record at all that was not deleted, over all candidates and attacks."""
_SHOWN = 8


@dataclass(frozen=True)
class Candidates:
    """Records of which one asks whether they were deleted, and others to compare them with.

    Attributes:
        count: of the records that are asked for; they come first in the challenge.
        challenge: these, and the public records that are none of them.
    """

    count: int
    challenge: Challenge

    @classmethod
    def read(cls, path: Path, public: PublicSample) -> "Candidates":
        """Read ``x`` and ``y`` of an npz file.

        Raises:
            DataError: the file cannot be read, its records have another form than the public ones, or two are equal.
        """
        x, y = read_like(path, public)
        rows = _rows(x, y)
        again = np.flatnonzero(np.unique(rows, axis=0, return_counts=True)[1] > 1)
        if len(again):
            raise DataError(f"{path} has a record more than once; nothing can tell equal records apart: leave one")
        known = {row.tobytes() for row in rows}
        other = np.array([row.tobytes() not in known for row in _rows(public.x, public.y)])
        if not other.any():
            raise DataError(f"{path} has all public records among it; some are needed beside, to compare with")
        return cls(len(x), Challenge(np.concatenate([x, public.x[other]]), np.concatenate([y, public.y[other]])))

    def status(self, truth: Truth) -> NDArray[np.int64]:
        """``[1, e]`` the solution: deleted, said to be none of the deleted ones, or public.

        Raises:
            ScenarioError: a deleted record is no candidate.
        """
        asked = [row.tobytes() for row in _rows(self.challenge.x, self.challenge.y)[: self.count]]
        deleted = {row.tobytes() for row in _rows(truth.x, truth.y)}
        if not deleted <= set(asked):
            raise ScenarioError(
                "--truth has a record that is none of --candidates: whether it is singled out cannot be told; add it"
            )
        status = np.full((1, len(self.challenge.y)), Status.HELD_OUT, dtype=np.int64)
        status[0, : self.count] = [Status.DELETED if row in deleted else Status.RETAINED for row in asked]
        return status

    def judged(self, answers: Mapping[str, Answer]) -> dict[str, tuple[Candidate, ...]]:
        """What each attack that scores given records says of every candidate, in their order."""
        guesses = {name: answer.guesses[0] for name, answer in answers.items()}
        scored = {name: guess for name, guess in guesses.items() if isinstance(guess, Scores)}
        level = MISTAKES / max(1, self.count * len(scored))
        return {name: self._judged(guess, level) for name, guess in scored.items()}

    def told(self, name: str, attempt: AuditedAttack, judged: Mapping[str, tuple[Candidate, ...]]) -> AuditedAttack:
        """What one attack says, with what it says of the candidates where it scores any."""
        if name not in judged:
            return attempt
        sentence = said(name, judged[name], len(self.challenge.y) - self.count, len(judged))
        return attempt.model_copy(update={"candidates": judged[name], "says": sentence})

    def _judged(self, guess: Scores, level: float) -> tuple[Candidate, ...]:
        """A rank test of each candidate: it is one more public record unless it was deleted."""
        asked, others = guess.deleted[: self.count], np.sort(guess.deleted[self.count :])
        above = len(others) - np.searchsorted(others, asked, "left")
        return tuple(
            Candidate(
                score=float(score),
                chance=(1 + int(count)) / (1 + len(others)),
                chance_ci95=share_interval(int(count) / len(others), len(others)),
                singled_out=(1 + int(count)) / (1 + len(others)) <= level,
            )
            for score, count in zip(asked, above, strict=True)
        )


def needed(count: int, attacks: int = 1) -> int:
    """How many public records are needed to single out one of so many candidates by so many attacks."""
    return int(np.ceil(count * attacks / MISTAKES)) - 1


def said(name: str, judged: Sequence[Candidate], public: int, attacks: int) -> str:
    """What one attack says of all candidates, a sentence.

    Args:
        name: of the attack.
        judged: every candidate.
        public: how many records they are compared with.
        attacks: how many score candidates.
    """
    if public < needed(len(judged), attacks):
        return (
            f"{name} cannot single out any of {len(judged)} candidates: {public} public records are too few to compare "
            f"with, {needed(len(judged), attacks):,} are needed"
        )
    chosen = [number for number, candidate in enumerate(judged) if candidate.singled_out]
    if not chosen:
        best = max(judged, key=lambda candidate: candidate.score)
        low, high = best.chance_ci95
        return (
            f"{name} singles out none of {len(judged)} candidates: {_percent(low)} to {_percent(high)} of records that "
            f"were not deleted score as high as the best of them"
        )
    high = max(judged[number].chance_ci95[1] for number in chosen)
    return (
        f"{name} singles out {_listed(chosen)} of {len(judged)} candidates: at most {_percent(high)} of records that "
        f"were not deleted score as high (95 % interval, from {public:,} public ones)"
    )


def conclusion(judged: Mapping[str, Sequence[Candidate]], status: NDArray[np.int64] | None) -> str:
    """What the releases say of the candidates, by any attack.

    Args:
        judged: every candidate, by attack.
        status: the solution, where the truth is given.
    """
    if not judged:
        return "No attack that was run scores candidates."
    count = len(next(iter(judged.values())))
    chosen = sorted({i for each in judged.values() for i, candidate in enumerate(each) if candidate.singled_out})
    told = "" if status is None else _hits(chosen, status[0, :count])
    if not chosen:
        return f"The releases single out none of {count} candidates{told}."
    return (
        f"The releases single out {_listed(chosen)} of {count} candidates (counted from 0){told}; a list without a "
        f"deleted record would have one singled out in {100 * MISTAKES:.0f} of 100 audits at most."
    )


def _hits(chosen: Sequence[int], status: NDArray[np.int64]) -> str:
    """How many of the deleted records are among those singled out, and how many there would be by chance."""
    deleted = int((status == Status.DELETED).sum())
    hits = int((status[list(chosen)] == Status.DELETED).sum())
    low, high = share_interval(hits / deleted, deleted)
    chance = len(chosen) / len(status)
    return (
        f", and with them {hits} of {deleted} deleted ones (95 % interval of the share {low:.2f} to {high:.2f}; as "
        f"many candidates drawn blindly hold {chance:.2f} of them)"
    )


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    return shown if len(numbers) <= _SHOWN else f"{shown} and {len(numbers) - _SHOWN} more"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rows(x: Array, y: Array) -> Array:
    """Records with their labels, a row each, in which equal ones are the same bytes."""
    return np.concatenate([np.asarray(x, np.float64), np.asarray(y, np.float64)[:, None]], axis=1) + 0.0
