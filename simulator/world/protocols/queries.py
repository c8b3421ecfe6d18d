"""What an adversary without the parameters gets: answers of the models around a deletion, to records it chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.config import Config
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Guess


@dataclass(frozen=True)
class Reply:
    """A model's answer to n records.

    Attributes:
        labels: ``[n]`` int64 predicted classes; zeros for regression.
        top: ``[n]`` float64 score of the predicted class; None where only labels are given.
        scores: ``[n, Q]`` float64 probabilities (softmax, mlp, cnn), or the scores themselves (ridge, svm, regression);
            None where not all are given.
    """

    labels: Array
    top: Array | None = None
    scores: Array | None = None


class QueriedCase(Protocol):
    """One deletion to somebody who may ask, and read nothing."""

    index: int
    size: int
    labels: tuple[float, ...] | None

    def before(self, x: Array) -> Reply:
        """Ask the last model before the unlearning about ``x [n, d]``: n queries."""
        ...

    def after(self, x: Array) -> Reply:
        """Ask the last model of the unlearning about ``x [n, d]``: n queries."""
        ...


@runtime_checkable
class QueryAttack(Config, Protocol):
    """An attack that is handed no parameters. ``card.access`` is what its questions are answered with."""

    card: ClassVar[Card]

    @property
    def kind(self) -> str:
        """Its name in the table of attacks."""
        ...

    def ask(
        self, cases: Sequence[QueriedCase], knowledge: PublicKnowledge, rng: np.random.Generator
    ) -> Sequence[Guess]:
        """Answer every case, in order, all of one kind."""
        ...
