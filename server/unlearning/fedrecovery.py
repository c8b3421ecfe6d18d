"""Approximate unlearning by subtracting the leaver's gradient residuals."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.unlearning import CARDS
from palimpsest.server.unlearning.residuals import cohorts, residual
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.privacy.gaussian import gaussian_sigma
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.forecast import Forecast, Workload
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Array, Release
from palimpsest.simulator.world.specs import Frozen


class FedRecovery(Frozen):
    """Subtract a weighted sum of the leaver's gradient residuals, and add Gaussian noise (Zhang et al., TIFS 2023).

    theta' = theta - sum_t p_t r_t + N(0, sigma^2): r_t is round t's mean update with the leavers less the mean without
    them, p_t = ||r_t||^2 / sum_s ||r_s||^2, sigma by the analytic Gaussian mechanism.

    Other implementations take ||theta_{t+1} - theta_t||^2 for ||r_t||^2 in p_t; which one the paper means could not be
    established, nor its hyper-parameters: the defaults are ours.

    Guarantee: none is promised. The paper's (epsilon, delta) holds if ``sensitivity`` bounds the distance between what
    is subtracted to and the retrained model; its own bound takes smoothness constants that nobody knows for a network.
    Cost: arithmetic at the server; no client is asked. The server keeps the update of every client in every round.

    Attributes:
        epsilon, delta: indistinguishability from retraining that the noise buys; epsilon = 0: no noise.
        sensitivity: the bound on that distance.
    """

    card: ClassVar[Card] = CARDS["fedrecovery"]
    method: Literal["fedrecovery"] = "fedrecovery"
    epsilon: float = Field(default=0.0, ge=0)
    delta: float = Field(default=1e-5, gt=0, lt=1)
    sensitivity: float = Field(default=0.1, gt=0)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield one release a case."""
        sigma = gaussian_sigma(self.epsilon, self.delta, self.sensitivity) if self.epsilon else 0.0
        for case in cases:
            step = self._subtracted(history, case)
            notes = {"sigma": sigma, "residual_norm": float(np.linalg.norm(step))}
            if sigma and step.any():
                step = step - sigma * history.retrainer.noise("fedrecovery", case).standard_normal(step.shape)
            model = unflat(flat(case.before) - step, case.before) if step.any() else case.before
            yield Outcome(Release(case.branch, case.round, "unlearning", model), notes=notes)

    def forecast(self, work: Workload) -> Forecast:
        """No client is asked."""
        return Forecast(0, 0, len(work.requests))

    def public_rule(self) -> tuple[str, float]:
        """What is subtracted is close to a gradient of the leaver, of unknown length."""
        return "identity", 1.0

    def _subtracted(self, history: History, case: UnlearningCase) -> Array:
        """sum_t p_t r_t, one round in memory at a time."""
        total, squares = np.zeros(flat(case.before).shape), 0.0
        for everyone, staying in cohorts(history, case):
            if len(staying) == len(everyone):
                continue
            of_round = residual(history, everyone, staying)
            square = float(of_round @ of_round)
            total, squares = total + square * of_round, squares + square
        return total / squares if squares else total
