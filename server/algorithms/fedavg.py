"""Federated averaging (McMahan et al., AISTATS 2017), of many models at once."""

from collections.abc import Iterator, Sequence

from server.algorithms.step import Step
from server.blocks import add_up, of_round, per_client
from server.setup import Lineage, Setup
from simulator.world.protocols import BlockResult, Federation
from simulator.world.records import Params


def rounds(
    setup: Setup, lineages: Sequence[Lineage], starts: Sequence[Params], federation: Federation
) -> Iterator[Step]:
    """Yield each round's models: theta <- theta + sum n_k (theta_k - theta) / sum n_k over the round's cohort.

    A lineage moves from its own ``first`` round to its own ``last``. A cohort without a single record left leaves its
    model as it is.
    """
    models = list(starts)
    ends = [setup.plan.rounds if lineage.last is None else lineage.last for lineage in lineages]
    for round in range(min(lineage.first for lineage in lineages), max(ends)):
        moving = [i for i, lineage in enumerate(lineages) if lineage.first <= round < ends[i]]
        if not moving:
            continue
        blocks = of_round(setup, lineages, moving, round)
        current = [models[i] for i in moving]
        ask = (setup.spec, current, blocks, round, setup.plan.recipe, setup.keep_updates)
        results = federation.train(*ask) if blocks else []
        for i, total in zip(moving, add_up(blocks, results, len(moving)), strict=True):
            models[i] = _moved(models[i], total)
        updates = per_client(blocks, results, len(moving)) if setup.keep_updates else ()
        yield Step(moving, [models[i] for i in moving], round + 1, updates=updates)


def _moved(model: Params, total: BlockResult | None) -> Params:
    if total is None or total.weight == 0.0:
        return model
    return {name: (value + total.sums[name] / total.weight).astype(value.dtype) for name, value in model.items()}
