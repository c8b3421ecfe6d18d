"""The records that pass between the stages: requests, releases, cases, and what attacks say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

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
class Case:
    """One deletion as the eavesdropper sees it: the models around it and what it was granted to know.

    Attributes:
        index: number of the case, the only link to ground truth (which joins in scoring).
        size: how many records were deleted (k).
        before: the last model seen before the unlearning.
        after: the last model of the unlearning.
        between: the models seen in between, oldest first.
        trunk, branch: what was heard at the same rounds before the unlearning and in it, oldest first: releases of one
            position have as many rounds behind them. Of equal length; empty where rounds cannot be aligned.
        labels: labels of the deleted records, ascending, where granted.
        clients: who asked, where granted.
    """

    index: int
    size: int
    before: Params
    after: Params
    between: Sequence[Params] = ()
    trunk: Sequence[Params] = ()
    branch: Sequence[Params] = ()
    labels: tuple[float, ...] | None = None
    clients: tuple[int, ...] | None = None

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

    case: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    no_signal: bool = False
    notes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """Which classes an attack says were deleted in one case.

    Attributes:
        case: index of the case.
        y: ``[size]`` ascending classes, one for each deleted record.
        evidence: ``[Q]`` of each class, the larger the more likely it was deleted.
        no_signal: True where the models did not differ and the public sample's shares were returned instead.
    """

    case: int
    y: NDArray[np.float64]
    evidence: NDArray[np.float64]
    no_signal: bool = False


@dataclass(frozen=True)
class Scores:
    """What an attack says of every record of the challenge for one case; larger is more likely, whatever the scale.

    Attributes:
        case: index of the case.
        deleted: ``[e]`` that this deletion took the record away.
        member_before, member_after: ``[e]`` that the single model before, or after, was trained on the record; of
            attacks on membership, whose power on the model before tells what their silence after is worth.
        no_signal: True where the models did not differ.
    """

    case: int
    deleted: NDArray[np.float64]
    member_before: NDArray[np.float64] | None = None
    member_after: NDArray[np.float64] | None = None
    no_signal: bool = False


Guess: TypeAlias = Reconstruction | Labels | Scores
"""One attack's answer for one case; all answers of an attack are of one kind."""
