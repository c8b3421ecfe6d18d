"""What an arm is run from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from palimpsest.server.session import Processed
from palimpsest.simulator.experiment.training import SharedTraining
from palimpsest.simulator.planning.plan import Arm
from palimpsest.simulator.planning.privacy import EpsilonMeter, PrivacyBudget
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.records import Array


@dataclass(frozen=True)
class ArmInputs:
    """What an arm is run from.

    Attributes:
        scenario: what the user wrote.
        arm: which combination this is.
        shared: the trained model that it branches from.
    """

    scenario: Scenario
    arm: Arm
    shared: SharedTraining

    @cached_property
    def privacy_budget(self) -> PrivacyBudget:
        """Reads the privacy account by the scenario's rules."""
        privacy = self.scenario.privacy
        return PrivacyBudget(EpsilonMeter(privacy.delta, privacy.accountant), privacy.budget)

    def forgotten(self, processed: Processed) -> tuple[Array, Array]:
        """``[k, d]`` records of one request and their ``[k]`` labels: ground truth, for scoring only."""
        population = self.shared.preparation.population
        forget = processed.case.request.forget
        rows = np.concatenate([population.rows(client, records) for client, records in forget.items()])
        return population.take(rows)
