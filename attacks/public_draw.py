"""Baseline: as many random public records as were deleted."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from palimpsest.attacks import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case, Reconstruction
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Frozen


class PublicDraw(Frozen):
    """k records drawn from the public sample, labels included, whatever was released.

    What several answers are worth once they are matched to several records: of hundreds of random digits, each deleted
    one finds some that resemble it. An attack on k > 1 records has seen nothing unless it beats this.
    """

    card: ClassVar[Card] = CARDS["public-draw"]
    kind: Literal["public-draw"] = "public-draw"

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Draw for every case anew; with replacement only where more were deleted than are public."""
        seed, answers = int(rng.integers(2**31)), []
        for case in cases:
            case_rng = generator(seed, "public-draw", case.index)  # a case's draw does not depend on its neighbours
            chosen = case_rng.choice(len(knowledge.x), size=case.size, replace=case.size > len(knowledge.x))
            x, y = np.asarray(knowledge.x, np.float64)[chosen], np.asarray(knowledge.y, np.float64)[chosen]
            answers.append(Reconstruction(case=case.index, x=x, y=y))
        return answers
