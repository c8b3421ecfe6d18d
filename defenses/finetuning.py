"""Ordinary rounds between an unlearning and its release."""

from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.defenses import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.defense import Defense


class Finetuning(Defense):
    """Go on with ordinary rounds on what is retained before an unlearning is broadcast (Hu et al., S&P 2024).

    The eavesdropper hears the model before and the model after the last of these rounds, and nothing in between: the
    deletion is mixed with what the rounds changed. Under a private defense in the same stack the rounds are charged.

    Guarantee: none: nothing bounds what of the deletion is left.

    Attributes:
        rounds: of the scenario's training, cohorts and batches drawn anew.
    """

    card: ClassVar[Card] = CARDS["finetuning"]
    kind: Literal["finetuning"] = "finetuning"
    rounds: int = Field(default=3, ge=1)

    def rounds_before_release(self) -> int:
        """How many."""
        return self.rounds
