"""When the trunk first used a record: a function of sizes, seed and plan, never of what the record holds."""

from collections.abc import Sequence

import numpy as np

from palimpsest.server.blocks import cohort
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.world.models.batches import batches_of
from palimpsest.simulator.world.records import Forget


def first_use(setup: Setup, forget: Forget, until: int, shard: int | None = None) -> int:
    """The first round of the trunk in which a client read any of these records; ``until`` if none before did.

    Args:
        setup: how the trunk was trained.
        forget: the records.
        until: rounds to look at.
        shard: that all their clients belong to, where the trunk was trained in shards.
    """
    trunk = Lineage(branch=0, forget={}, shard=shard)
    leavers = {client for client, records in forget.items() if records}
    for round in range(until):
        present = leavers.intersection(cohort(setup, trunk, round))
        if any(_reads(setup, trunk, client, round, forget[client]) for client in present):
            return round
    return until


def _reads(setup: Setup, trunk: Lineage, client: int, round: int, records: Sequence[int]) -> bool:
    """Whether a client that takes part in a round reads any of some records; with whole epochs it reads them all."""
    recipe = setup.plan.recipe
    if not recipe.local_steps or setup.private:  # under privacy a secret coin decides, so any part counts
        return True
    key = (*trunk.batches, client, round)
    read = batches_of(int(setup.sizes[client]), (), recipe, setup.seed, key, compact=False)
    return bool(np.isin(records, read).any())
