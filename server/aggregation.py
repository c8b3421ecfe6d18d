"""What the server adds up or solves passes through the defense, and the account of privacy is charged."""

from collections.abc import Sequence

import numpy as np

from palimpsest.server.algorithms.ridge import RidgeSolver
from palimpsest.server.blocks import expected_cohort
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.world.models.model import linear_params
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.privacy.noise import noise_of
from palimpsest.simulator.world.protocols.defense import Memory, Round, Solved, private_part
from palimpsest.simulator.world.protocols.federation import BlockResult, Statistics
from palimpsest.simulator.world.records import Forget, Params
from palimpsest.simulator.world.seeding import Key, part_of


def aggregated(
    setup: Setup,
    lineage: Lineage,
    round: int,
    shapes: Params,
    total: BlockResult | None,
    clients: Sequence[int],
    memory: Memory,
) -> tuple[BlockResult, Memory]:
    """Pass one round's sums through the defense; return them, and what the defense remembers.

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
    if part is not None and part.card.pays_at == "aggregation":
        price = part.charge(setup.recipe, 0)
        if setup.amplified:
            price = Charge(price.noise_multiplier, setup.plan.sampling_rate, price.steps)
        setup.account.charge(lineage.branch, None if setup.amplified else clients, lineage.forget, price)
    apart = 0 if lineage.shard is None else 1 + lineage.shard
    noise = noise_of(setup.seed, setup.noise(part_of(lineage.noise, "sum")), round, apart)
    return setup.defense.aggregate(total, Round(expected_cohort(setup, lineage), noise, memory))


def solved_ridge(setup: Setup, branch: int, forget: Forget, stream: Key, exact: Statistics) -> Params:
    """Solve ridge under the defense, which may change the statistics and the solution.

    Args:
        setup: of the training.
        branch, forget: where the solution goes, and what it was solved without.
        stream: of this solution's noise.
        exact: over everything else.
    """
    noise = noise_of(setup.seed, setup.noise(part_of(stream, "statistics")))
    used = setup.defense.statistics(exact, setup.spec, noise)
    model = linear_params(RidgeSolver(used, setup.spec.regularisation).solution)
    return solved(setup, branch, forget, stream, model)


def solved(setup: Setup, branch: int, forget: Forget, stream: Key, model: Params) -> Params:
    """Pass a solved model through the defense; every client whose data it read is charged."""
    part = private_part(setup.defense)
    if part is not None and part.card.pays_at == "aggregation":
        setup.account.charge(branch, None, forget, part.charge(setup.recipe, 0))
    noise = noise_of(setup.seed, setup.noise(part_of(stream, "solution")))
    tolerance = setup.plan.gradient_norm if setup.plan.algorithm == "lbfgs" else 0.0
    return setup.defense.solution(model, Solved(setup.spec, int(setup.sizes.sum()), tolerance, noise))
