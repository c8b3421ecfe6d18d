"""Where the server adds up what clients sent, the defense has its say, and the account is charged."""

from collections.abc import Sequence

import numpy as np

from server.blocks import expected_cohort
from server.setup import Lineage, Setup
from simulator.world.account import Charge
from simulator.world.defense import Memory, Round, private_part
from simulator.world.noise import noise_of
from simulator.world.protocols import BlockResult
from simulator.world.records import Params
from simulator.world.seeding import part_of


def aggregated(
    setup: Setup,
    lineage: Lineage,
    round: int,
    shapes: Params,
    total: BlockResult | None,
    clients: Sequence[int],
    memory: Memory,
) -> tuple[BlockResult, Memory]:
    """What the defense lets through of one round's sums, and what it remembers.

    Args:
        setup: of the training.
        lineage: whose round it is.
        round: rounds behind it.
        shapes: arrays of the shapes of the sums.
        total: the sums; None where nobody came: zeros then.
        clients: who came.
        memory: as the last round left it.
    """
    if total is None:
        total = BlockResult({name: np.zeros(np.shape(value)) for name, value in shapes.items()}, 0.0)
    part = private_part(setup.defense)
    if part is not None and part.pays_at == "aggregation":
        price = part.charge(setup.recipe, 0)
        if setup.amplified:
            price = Charge(price.noise_multiplier, setup.plan.sampling_rate, price.steps)
        setup.account.charge(lineage.branch, None if setup.amplified else clients, lineage.forget, price)
    apart = 0 if lineage.shard is None else 1 + lineage.shard
    noise = noise_of(setup.seed, setup.noise(part_of(lineage.noise, "sum")), round, apart)
    return setup.defense.aggregate(total, Round(expected_cohort(setup, lineage), noise, memory))
