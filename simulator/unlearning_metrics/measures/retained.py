"""What models are worth on the clients' records that are left, on all of them and to the client worst off."""

from palimpsest.simulator.unlearning_metrics.measures.measure import Measure, Observed
from palimpsest.simulator.world.records import Array

_FEWEST = 10
"""Retained records from which a client counts as a worst client: accuracy on fewer is a throw of dice."""


def _utility(observed: Observed) -> Array:
    return observed.retained.utility


def _worst_client(observed: Observed) -> Array | None:
    """The lowest accuracy among clients with records enough; of classes alone."""
    counted = observed.retained.left >= _FEWEST
    if not counted.any():
        return None
    lowest: Array = (observed.retained.right[:, counted] / observed.retained.left[counted]).min(axis=1)
    return lowest


UTILITY = Measure(_utility, "utility", "median")
WORST_CLIENT = Measure(_worst_client, "utility", "median")
