"""Federated averaging (McMahan et al., AISTATS 2017), of many models at once."""

from collections.abc import Iterator, Sequence

from palimpsest.server.aggregation import aggregated
from palimpsest.server.algorithms.step import Step
from palimpsest.server.blocks import add_up, of_round, per_client
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.world.protocols.federation import BlockResult, Federation
from palimpsest.simulator.world.protocols.questions import Train
from palimpsest.simulator.world.records import Params


def rounds(
    setup: Setup, lineages: Sequence[Lineage], starts: Sequence[Params], federation: Federation
) -> Iterator[Step]:
    """Yield each round's models: theta <- theta + sum n_k (theta_k - theta) / sum n_k over the round's cohort.

    A lineage moves from its own ``first`` round to its own ``last``. A cohort without a single record left leaves its
    model as it is. What clients train by, and what the sums become, is as the defense has it.
    """
    models = list(starts)
    memories = [setup.remembered(lineage.first) for lineage in lineages]
    ends = [setup.plan.rounds if lineage.last is None else lineage.last for lineage in lineages]
    for round in range(min(lineage.first for lineage in lineages), max(ends)):
        moving = [i for i, lineage in enumerate(lineages) if lineage.first <= round < ends[i]]
        if not moving:
            continue
        blocks = of_round(setup, lineages, moving, round, memories)
        current = [models[i] for i in moving]
        question = Train(setup.spec, blocks, current, round, setup.recipe, setup.keep_updates)
        results = federation.ask(question) if blocks else []
        for position, total in enumerate(add_up(blocks, results, len(moving))):
            i = moving[position]
            came = [client for block in blocks if block.model == position for client in block.clients]
            through, memories[i] = aggregated(setup, lineages[i], round, models[i], total, came, memories[i])
            models[i] = _moved(models[i], through)
        updates = per_client(blocks, results, len(moving)) if setup.keep_updates else ()
        yield Step(
            moving, [models[i] for i in moving], round + 1, updates=updates, memories=[memories[i] for i in moving]
        )


def _moved(model: Params, total: BlockResult) -> Params:
    if total.weight == 0.0:
        return model
    return {name: (value + total.sums[name] / total.weight).astype(value.dtype) for name, value in model.items()}
