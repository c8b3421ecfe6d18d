"""Cards: what a method is and needs, as literals, so that listing methods imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

Place = Literal["local training", "client update", "aggregation", "release", "schedule"]
"""Where a defense may act."""

Unit = Literal["record", "client"]
"""What differential privacy protects, and an account is kept for: neighbours differ in one unit, replaced by null."""

Access = Literal["scores", "top-1", "label"]
"""All scores, the predicted class with its score, or the predicted class alone."""

Trait = Literal["linear", "quadratic", "smooth", "network", "first layer", "last layer"]
"""What a method may ask of a model, see ``world.models.card.ModelCard.traits``."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """All facts of a method that do not depend on its hyper-parameters; they are stated here alone.

    A built-in method's card stands in its package's table, which can be read without importing the method. Its class
    carries it as ``card``. The class of another package's method states its card itself.

    Attributes:
        target: where the class lives, ``"package.module:Class"``; for other packages the entry point says it.
        summary: one sentence for ``palimpsest list``.
        levels: deletion levels it supports (record, label, client); empty where that means nothing.
        models: the only models it works on, by name; empty means all.
        traits: what a model must be or have for it, see ``ModelCard.traits``.
        algorithms: training algorithms it works with; empty means all.
        strategies: of an unlearning method: strategies of federated training that it is valid for; empty means all.
        needs: what it needs from the federation or the adversary's knowledge.
        promises: ``exact``, ``certified`` or ``none``; for attacks, the kind of answer.
        source: the paper.
        deletes: of an unlearning method: whether the records are tombstoned once it is done.
        adaptive: of an exact method: whether it stays exact where requests depend on earlier releases.
        adaptive_if: hyper-parameters with the values that this takes, ``(("coupling", "independent"),)``.
        under: of an unlearning method: places at which a private defense's noise covers all that it reads.
        places: of a defense: where it acts. A stack's card names no place: its parts' cards do.
        unit, pays_at: of a private defense: what it protects, and the place where its noise enters and where the
            account is charged; None: it promises no privacy.
        access: of an attack that asks the models: what its questions are answered with; None: it reads parameters.
    """

    summary: str
    target: str = ""
    levels: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    traits: tuple[Trait, ...] = ()
    algorithms: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ("fedavg",)
    needs: tuple[str, ...] = ()
    promises: str = "none"
    source: str = ""
    deletes: bool = True
    adaptive: bool = False
    adaptive_if: tuple[tuple[str, str], ...] = ()
    under: tuple[Place, ...] = ()
    places: tuple[Place, ...] = ()
    unit: Unit | None = None
    pays_at: Place | None = None
    access: Access | None = None

    def stays_exact(self, method: object) -> bool:
        """Whether a method with these hyper-parameters stays exact where requests depend on earlier releases."""
        return self.adaptive and all(getattr(method, key) == value for key, value in self.adaptive_if)


@dataclass(frozen=True)
class MeasureCard:
    """One line of a table of measures.

    Attributes:
        target: ``"package.module:MEASURE"``.
        summary: one sentence for ``palimpsest list``.
    """

    target: str
    summary: str
