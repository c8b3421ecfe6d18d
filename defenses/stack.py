"""Several defenses in one arm."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from palimpsest.defenses import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.privacy.noise import Noise
from palimpsest.simulator.world.protocols.defense import Defense, Memory, Round, Solved, private_part
from palimpsest.simulator.world.protocols.federation import BlockResult, Statistics
from palimpsest.simulator.world.records import DeletionRequest, Params, Release
from palimpsest.simulator.world.specs import ModelSpec, Recipe


class Stack(Defense):
    """Each defense acts on what the one before it left, at every place.

    Guarantee: that of its one private part, if there is one: what the others do is post-processing, or public.

    Attributes:
        of: the defenses, in the order in which they act.
    """

    card: ClassVar[Card] = CARDS["stack"]
    kind: Literal["stack"] = "stack"
    of: tuple[SerializeAsAny[Defense], ...] = Field(default=(), max_length=8)

    @model_validator(mode="after")
    def _can_stand_together(self) -> "Stack":
        kinds = [part.kind for part in self.of]
        if "stack" in kinds:
            raise ValueError("a stack in a stack: write its defenses into the outer one")
        twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is there twice; remove one")
        private = [part.kind for part in self.of if part.card.unit is not None]
        if len(private) > 1:
            raise ValueError(f"{' and '.join(private)} each keep a privacy account; an arm has one: remove one")
        return self

    def parts(self) -> tuple[Defense, ...]:
        """The defenses."""
        return self.of

    def local_training(self, recipe: Recipe) -> Recipe:
        """All of them, one after the other."""
        for part in self.of:
            recipe = part.local_training(recipe)
        return recipe

    def model(self, spec: ModelSpec) -> ModelSpec:
        """All of them, one after the other."""
        for part in self.of:
            spec = part.model(spec)
        return spec

    def client_update(self, memory: Memory) -> float:
        """The tightest bound."""
        return min((bound for part in self.of if (bound := part.client_update(memory)) > 0.0), default=0.0)

    def aggregate(self, total: BlockResult, about: Round) -> tuple[BlockResult, Memory]:
        """All of them, one after the other."""
        memory: Memory = {}
        for part in self.of:
            total, remembered = part.aggregate(total, about)
            memory |= remembered
        return total, memory

    def statistics(self, exact: Statistics, spec: ModelSpec, noise: Noise) -> Statistics:
        """All of them, one after the other."""
        for part in self.of:
            exact = part.statistics(exact, spec, noise)
        return exact

    def solution(self, model: Params, about: Solved) -> Params:
        """All of them, one after the other."""
        for part in self.of:
            model = part.solution(model, about)
        return model

    def release(self, release: Release, noise: Noise) -> Release:
        """All of them, one after the other."""
        for part in self.of:
            release = part.release(release, noise)
        return release

    def schedule(self, requests: Sequence[DeletionRequest]) -> tuple[DeletionRequest, ...]:
        """All of them, one after the other."""
        for part in self.of:
            requests = part.schedule(requests)
        return tuple(requests)

    def rounds_before_release(self) -> int:
        """Those of all."""
        return sum(part.rounds_before_release() for part in self.of)

    def charge(self, recipe: Recipe, size: int) -> Charge:
        """What the private part charges."""
        part = private_part(self)
        return super().charge(recipe, size) if part is None else part.charge(recipe, size)

    def at_unit_noise(self) -> "tuple[Stack, float] | None":
        """With its private part at unit noise."""
        private = private_part(self)
        unit = None if private is None else private.at_unit_noise()
        if unit is None:
            return None
        return Stack(of=tuple(unit[0] if part is private else part for part in self.of)), unit[1]

    def calibrated(self, spends: Callable[[Defense], float]) -> Defense:
        """Each part, calibrated."""
        return Stack(of=tuple(part.calibrated(spends) for part in self.of))
