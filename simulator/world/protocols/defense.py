"""The fourth protocol: what may stand between clients, server and eavesdropper, each place with a default that does
nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from palimpsest.simulator.world.cards import Card, Place
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.privacy.noise import Noise
from palimpsest.simulator.world.protocols.federation import BlockResult, Statistics
from palimpsest.simulator.world.records import DeletionRequest, Params, Release
from palimpsest.simulator.world.specs import Frozen, ModelSpec, Recipe

IN_TRAINING: frozenset[Place] = frozenset({"local training", "client update", "aggregation", "schedule"})
"""Places whose defenses change what is trained or requested: arms share a training only if these are equal."""

Memory: TypeAlias = dict[str, float]
"""What a defense carries from round to round of one model. It may depend on nothing that is not broadcast, or paid."""


@dataclass(frozen=True)
class Round:
    """What an aggregation knows beside the sum.

    Attributes:
        expected: clients that a round expects, a constant of the training.
        noise: fresh for this model and round.
        memory: as the last round left it.
    """

    expected: float
    noise: Noise
    memory: Memory = field(default_factory=dict)


@dataclass(frozen=True)
class Solved:
    """What is publicly known of a model that was solved for.

    Attributes:
        spec: the model, its regulariser included.
        records: of all clients before any deletion.
        gradient_norm: the optimiser stops where the gradient of the objective is so long at most; 0: it is exact.
        noise: fresh for this solution.
    """

    spec: ModelSpec
    records: int
    gradient_norm: float
    noise: Noise


class Defense(Frozen):
    """No defense: every place is a no-op; a defense overrides where it acts, and its card says where that is.

    It acts in training, unlearning and recovery alike. A stack's card says nothing of its parts: ``parts`` gives them,
    each with its card. Guarantee: none.
    """

    card: ClassVar[Card] = Card(summary="no defense")
    kind: str = "none"

    def parts(self) -> "tuple[Defense, ...]":
        """The defenses that it is made of, in the order in which they act: itself, unless it is a stack."""
        return (self,)

    def local_training(self, recipe: Recipe) -> Recipe:
        """Change how clients train, and how they answer when a gradient is asked for."""
        return recipe

    def model(self, spec: ModelSpec) -> ModelSpec:
        """Change what is trained, for everybody who uses the model: bound the records that it sees."""
        return spec

    def client_update(self, memory: Memory) -> float:
        """Bound on the length of each client's update; 0: none. Where there is one, all clients weigh the same."""
        return 0.0

    def aggregate(self, total: BlockResult, about: Round) -> tuple[BlockResult, Memory]:
        """Change what the server steps by: sums over the round's cohort, and their total weight (0: nobody came).

        The server divides sums by weight.
        """
        return total, about.memory

    def statistics(self, exact: Statistics, spec: ModelSpec, noise: Noise) -> Statistics:
        """Change what ridge is solved from; the server keeps what it was."""
        return exact

    def solution(self, model: Params, about: Solved) -> Params:
        """Change a model that was solved for, before anything is made of it."""
        return model

    def release(self, release: Release, noise: Noise) -> Release:
        """Change what is broadcast."""
        return release

    def schedule(self, requests: Sequence[DeletionRequest]) -> tuple[DeletionRequest, ...]:
        """Change when requests are processed, and which together; indices stay unique."""
        return tuple(requests)

    def rounds_before_release(self) -> int:
        """Ordinary rounds, unheard, between the end of an unlearning and its one release."""
        return 0

    def charge(self, recipe: Recipe, size: int) -> Charge:
        """What one reading costs each of the units of a client with so many records, where ``pays_at`` says.

        A reading is a round of local training, one aggregation, or one solution.
        """
        raise NotImplementedError(f"{self.kind} charges nothing")

    def charge_once(self) -> Charge:
        """What a gradient over all of some records costs each unit; only where the noise enters in local training."""
        raise NotImplementedError(f"{self.kind} charges nothing")

    def at_unit_noise(self) -> "tuple[Defense, float] | None":
        """The defense at noise multiplier 1, and its own noise multiplier; None where charges are no function of it.

        A defense that gives these is charged for as the other one, but for the noise: by as many steps at the same
        rates, whatever the noise is. Prices of many noise multipliers then need no rehearsal each.
        """
        return None

    def calibrated(self, spends: "Callable[[Defense], float]") -> "Defense":
        """The defense with all that depends on the training filled in.

        Args:
            spends: the highest epsilon that a unit would pay for the training under a defense.
        """
        return self


def private_part(defense: Defense) -> Defense | None:
    """The part that promises differential privacy; a stack holds one at most."""
    return next((part for part in defense.parts() if part.card.unit is not None), None)


def in_training(defense: Defense) -> tuple[Defense, ...]:
    """The parts that change training or requests."""
    return tuple(part for part in defense.parts() if IN_TRAINING.intersection(part.card.places))
