"""Noise on the minimiser itself."""

import math
from typing import ClassVar, Literal

from palimpsest.defenses import CARDS
from palimpsest.defenses.bounded import BoundedRecords, row_bound, target_bound
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.kinds import model_card
from palimpsest.simulator.world.protocols.defense import Solved
from palimpsest.simulator.world.records import Params


class OutputPerturbation(BoundedRecords):
    """Add Gaussian noise by the sensitivity of the minimiser (Chaudhuri, Monteleoni, Sarwate, JMLR 2011).

    The objective, the SUM of losses + lambda/2 ||theta||^2, is lambda-strongly convex: without one record, whose loss
    has a gradient of length L at most there, its minimiser is at most L / lambda away. The optimiser stops at a
    gradient of length tau, which adds 2 tau / lambda. With R^2 = C^2 + 1: softmax has L = sqrt 2 R. Squared losses have
    no bound of their own; at ridge's optimum ||theta|| <= B sqrt(n / lambda), because theta = 0 would cost n B^2 / 2,
    so L = R B (1 + R sqrt(n / lambda)), n the records before any deletion: far above what a record really moves.

    Every solution gets fresh noise, before a deletion and after it. L-BFGS iterates are not noised.

    Guarantee: (epsilon, delta)-differential privacy of every record against who sees the releases; a record pays for
    each solution that it is in.
    """

    card: ClassVar[Card] = CARDS["output-perturbation"]
    kind: Literal["output-perturbation"] = "output-perturbation"

    def solution(self, model: Params, about: Solved) -> Params:
        """Noise every parameter."""
        deviation = self.sigma * self.sensitivity(about)
        return {
            name: (value + deviation * about.noise.standard_normal(value.shape)).astype(value.dtype)
            for name, value in model.items()
        }

    def sensitivity(self, about: Solved) -> float:
        """How far apart the released minimisers with and without one record can be."""
        bound, penalty = row_bound(about.spec), about.spec.regularisation
        slope = math.sqrt(2.0) * bound
        if model_card(about.spec.kind).loss == "squared error":
            slope = bound * target_bound(about.spec) * (1.0 + bound * math.sqrt(about.records / penalty))
        return (slope + 2.0 * about.gradient_norm) / penalty
