"""What every attack is."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np

from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.config import Config
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case, Guess


class Attack(Config, Protocol):
    """A frozen configuration that can act; its card says which models it works on and which knowledge it uses."""

    card: ClassVar[Card]

    @property
    def kind(self) -> str:
        """Its name in the table of attacks."""
        ...

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> Sequence[Guess]:
        """Answer every case, all at once so that it can batch; one answer a case, in order, all of one kind."""
        ...
