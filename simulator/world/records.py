"""The records that pass between the stages: requests, releases, cases, and what attacks say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Params: TypeAlias = Mapping[str, Array]
"""The parameters of one model by name, in the order of the model's ``names``."""

Forget: TypeAlias = Mapping[int, tuple[int, ...]]
"""Client id -> ascending local record indices (positions among the client's records before any deletion)."""

Level = Literal["record", "label", "client"]
Phase = Literal["training", "between", "unlearning", "recovery", "working"]
"""``between``: ordinary rounds between request and unlearning; ``working``: broadcast, but not a release."""


@dataclass(frozen=True)
class DeletionRequest:
    """One deletion, possibly of several clients at once.

    Attributes:
        index: position among the scenario's requests; its branch is ``branch_of`` when requests are independent.
        round: training round after which it arrives (the number of rounds already done).
        level: record, label or client.
        forget: what is to be deleted, by client.
        label: the class that goes, for level ``label``.
        rejoin: training round after which its clients take part again, with a new consent for what they had deleted;
            None: never.

    Example:
        >>> request = DeletionRequest(index=0, round=10, level="record", forget={3: (0, 4), 7: (2,)})
        >>> request.size, branch_of(request)
        (3, 1)
    """

    index: int
    round: int
    level: Level
    forget: Forget
    label: int | None = None
    rejoin: int | None = None

    @property
    def size(self) -> int:
        """Number of records to delete."""
        return sum(len(records) for records in self.forget.values())


def branch_of(request: DeletionRequest) -> int:
    """The branch of a request that is independent of others; 0 is the training's."""
    return request.index + 1


@dataclass(frozen=True)
class Release:
    """A global model that the server broadcasts.

    Attributes:
        branch: 0 for the trunk, i + 1 for the alternative deletion i.
        round: rounds of training this model has behind it.
        phase: what the server was doing.
        params: the model.
    """

    branch: int
    round: int
    phase: Phase
    params: Params


@dataclass(frozen=True)
class Message:
    """What a server heard of one client, or of a cohort whose messages are summed before it hears them.

    Attributes:
        phase: what the server was doing.
        round: rounds of training behind ``start``; of a gradient the number of the step.
        kind: ``update``, local minus sent model after local training, of a cohort the weighted mean; ``gradient``, the
            sum of the gradients of single records' losses.
        about: the records that were read: all that are retained, or exactly the forgotten ones.
        clients: who is in it.
        weight: what it counts for in a round's mean: records, or clients where all count the same.
        start: the model that was sent.
        sent: what came back, of its shapes.
    """

    phase: Phase
    round: int
    kind: Literal["update", "gradient"]
    about: Literal["retained", "forgotten"]
    clients: tuple[int, ...]
    weight: float
    start: Params
    sent: Params


@dataclass(frozen=True)
class Case:
    """One deletion as the eavesdropper sees it: the models around it and what it was granted to know.

    Attributes:
        index: number of the case, the only link to ground truth (which joins in scoring).
        size: how many records were deleted (k).
        before: the last model seen before the unlearning, as it was told or as the models tell.
        after: the last model of the unlearning.
        between: the models seen in between, oldest first.
        trunk, branch: what was heard at the same rounds before the unlearning and in it, oldest first: releases of one
            position have as many rounds behind them. Of equal length; empty where rounds cannot be aligned.
        earlier: what was heard of the rounds before the first of ``trunk``, oldest first.
        stream: all that was heard until the unlearning was over, oldest first, where nobody told when it began; empty
            where somebody did.
        labels: labels of the deleted records, ascending, where granted.
        clients: who asked, where granted.
        messages: what clients sent until the unlearning was over, oldest first, where the adversary is the server.
    """

    index: int
    size: int
    before: Params
    after: Params
    between: Sequence[Params] = ()
    trunk: Sequence[Params] = ()
    branch: Sequence[Params] = ()
    earlier: Sequence[Params] = ()
    stream: Sequence[Params] = ()
    labels: tuple[float, ...] | None = None
    clients: tuple[int, ...] | None = None
    messages: Sequence[Message] = ()

    @property
    def silent(self) -> bool:
        """Whether the deletion changed nothing: no bit of the released model moved."""
        return same_model(self.before, self.after)

    @cached_property
    def divergence(self) -> int | None:
        """Position in ``trunk`` and ``branch`` of the first models that differ, where the ones before them are equal.

        None where there is none: the sequences share no model, or all of them.
        """
        for position, (kept, gone) in enumerate(zip(self.trunk, self.branch, strict=True)):
            if not same_model(kept, gone):
                return position if position > 0 else None
        return None


def same_model(a: Params, b: Params) -> bool:
    """Whether two models are equal to the last bit."""
    return all(np.array_equal(a[name], b[name]) for name in a)


@dataclass(frozen=True)
class Challenge:
    """Records in random order: the deleted ones of all cases among others that were never seen.

    Which are which is not in it: attacks are asked, and scoring knows.

    Attributes:
        x: ``[e, d]`` float64 records.
        y: ``[e]`` classes or targets.
    """

    x: Array
    y: Array


class Guess(Protocol):
    """One attack's answer for one case: a frozen dataclass of arrays that packs and unpacks itself.

    All answers of an attack are of one kind. How a kind is scored is its card in ``attack_metrics``, which is looked up
    by ``name``; the attack's own card has the same word in ``promises``.

    Attributes:
        name: of this kind of answer.
    """

    name: ClassVar[str]

    @property
    def case(self) -> int:
        """Index of the case."""
        ...

    @property
    def no_signal(self) -> bool:
        """Whether the models did not differ, so that this answer is from public knowledge alone."""
        ...

    @classmethod
    def pack(cls, guesses: Sequence[Self]) -> dict[str, Array]:
        """The answers of one attack, at least one, as arrays by field."""
        ...

    @classmethod
    def unpack(cls, fields: Mapping[str, Array]) -> list[Self]:
        """The answers that ``pack`` made these arrays of."""
        ...


@dataclass(frozen=True)
class Reconstruction:
    """What an attack says the deleted records of one case were.

    Attributes:
        case: index of the case.
        x: ``[size, d]`` float64 records in the model's input units (images in [0, 1], tables standardised).
        y: ``[size]`` labels (class indices) or targets, in the order of ``x``.
        no_signal: True where the models did not differ and the public mean was returned instead.
        notes: numbers worth reporting, such as ``sign_flipped``.
    """

    name: ClassVar[str] = "reconstruction"

    case: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    no_signal: bool = False
    notes: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def pack(cls, guesses: Sequence[Self]) -> dict[str, Array]:
        """``x``, ``y``, ``case``, ``no_signal`` and notes, a row for each record."""
        sizes = [len(guess.y) for guess in guesses]
        arrays = {
            "x": np.concatenate([guess.x for guess in guesses]),
            "y": np.concatenate([guess.y for guess in guesses]),
            "case": np.repeat([guess.case for guess in guesses], sizes),
            "no_signal": np.repeat([guess.no_signal for guess in guesses], sizes),
        }
        for note in dict.fromkeys(note for guess in guesses for note in guess.notes):
            arrays[f"{_NOTE}{note}"] = np.repeat([guess.notes.get(note, np.nan) for guess in guesses], sizes)
        return arrays

    @classmethod
    def unpack(cls, fields: Mapping[str, Array]) -> list[Self]:
        """The answers, a case at a time; a note that a case did not have is absent again."""
        notes = {name.removeprefix(_NOTE): values for name, values in fields.items() if name.startswith(_NOTE)}
        return [
            cls(
                case=int(fields["case"][rows.start]),
                x=fields["x"][rows],
                y=fields["y"][rows],
                no_signal=bool(fields["no_signal"][rows.start]),
                notes={name: float(v[rows.start]) for name, v in notes.items() if not np.isnan(v[rows.start])},
            )
            for rows in _rows_of_cases(fields["case"])
        ]


@dataclass(frozen=True)
class Labels:
    """Which classes an attack says were deleted in one case.

    Attributes:
        case: index of the case.
        y: ``[size]`` ascending classes, one for each deleted record.
        evidence: ``[Q]`` of each class, the larger the more likely it was deleted.
        no_signal: True where the models did not differ and the public sample's shares were returned instead.
    """

    name: ClassVar[str] = "labels"

    case: int
    y: NDArray[np.float64]
    evidence: NDArray[np.float64]
    no_signal: bool = False

    @classmethod
    def pack(cls, guesses: Sequence[Self]) -> dict[str, Array]:
        """``y`` and ``case``, a row for each record, and ``evidence`` and ``no_signal``, one for each case."""
        return {
            "y": np.concatenate([guess.y for guess in guesses]),
            "case": np.repeat([guess.case for guess in guesses], [len(guess.y) for guess in guesses]),
            "evidence": np.stack([guess.evidence for guess in guesses]),
            "no_signal": np.array([guess.no_signal for guess in guesses]),
        }

    @classmethod
    def unpack(cls, fields: Mapping[str, Array]) -> list[Self]:
        """The answers, a case at a time."""
        return [
            cls(int(fields["case"][rows.start]), fields["y"][rows], evidence, bool(no_signal))
            for rows, evidence, no_signal in zip(
                _rows_of_cases(fields["case"]), fields["evidence"], fields["no_signal"], strict=True
            )
        ]


@dataclass(frozen=True)
class Scores:
    """What an attack says of every record of the challenge for one case; larger is more likely, whatever the scale.

    Attributes:
        case: index of the case.
        deleted: ``[e]`` that this deletion took the record away.
        member_before, member_after: ``[e]`` that the single model before, or after, was trained on the record; of
            attacks on membership, whose power on the model before tells what their silence after is worth.
        no_signal: True where the models did not differ.
        retained: ``[e]`` that the record was trained on and stays, by both models.
    """

    name: ClassVar[str] = "scores"

    case: int
    deleted: NDArray[np.float64]
    member_before: NDArray[np.float64] | None = None
    member_after: NDArray[np.float64] | None = None
    no_signal: bool = False
    retained: NDArray[np.float64] | None = None

    @classmethod
    def pack(cls, guesses: Sequence[Self]) -> dict[str, Array]:
        """``deleted``, of the others those given, ``case`` and ``no_signal``, a row a case."""
        given = {name: [getattr(guess, name) for guess in guesses] for name in _SCORED}
        return {
            **{name: np.stack(values) for name, values in given.items() if values[0] is not None},
            "case": np.array([guess.case for guess in guesses]),
            "no_signal": np.array([guess.no_signal for guess in guesses]),
        }

    @classmethod
    def unpack(cls, fields: Mapping[str, Array]) -> list[Self]:
        """The answers, a case at a time."""
        given = [name for name in _SCORED if name in fields]
        return [
            cls(case=int(case), no_signal=bool(no_signal), **{name: fields[name][i] for name in given})
            for i, (case, no_signal) in enumerate(zip(fields["case"], fields["no_signal"], strict=True))
        ]


_NOTE = "note:"
"""What the field of a note begins with."""
_SCORED = ("deleted", "member_before", "member_after", "retained")


def _rows_of_cases(cases: Array) -> list[slice]:
    """The rows of each case, where rows of one case stand together."""
    starts = np.flatnonzero(np.diff(cases, prepend=cases[0] - 1))
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(cases)], strict=True)]
