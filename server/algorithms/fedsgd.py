"""Federated SGD: one full-batch gradient of the cohort a round, stepped by the server."""

from collections.abc import Iterator, Sequence

import numpy as np

from palimpsest.server.algorithms.step import Step
from palimpsest.server.blocks import add_up, of_round
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.records import Params


def rounds(
    setup: Setup, lineages: Sequence[Lineage], starts: Sequence[Params], federation: Federation
) -> Iterator[Step]:
    """Yield each round's models: v <- momentum v + mean gradient + l2 theta; theta <- theta - learning rate v.

    The mean is over the cohort's retained records. A lineage moves from its own ``first`` round to its own ``last``;
    training that goes on from a release starts with v = 0.
    """
    recipe = setup.plan.recipe
    models = list(starts)
    velocity: list[Params] = [{name: np.zeros(value.shape) for name, value in model.items()} for model in models]
    ends = [setup.plan.rounds if lineage.last is None else lineage.last for lineage in lineages]
    for round in range(min(lineage.first for lineage in lineages), max(ends)):
        moving = [i for i, lineage in enumerate(lineages) if lineage.first <= round < ends[i]]
        if not moving:
            continue
        blocks = of_round(setup, lineages, moving, round, [{}] * len(lineages))
        current, private = [models[i] for i in moving], setup.recipe.private
        question = Gradient(setup.spec, blocks, current, private=private, step=round)
        results = federation.stream(question) if blocks else ()
        for i, total in zip(moving, add_up(blocks, results, len(moving)), strict=True):
            if total is None or total.weight == 0.0:
                continue
            old, speed = models[i], velocity[i]
            speed = {
                name: recipe.momentum * speed[name] + total.sums[name] / total.weight + recipe.l2 * old[name]
                for name in old
            }
            velocity[i] = speed
            models[i] = {
                name: (value - recipe.learning_rate * speed[name]).astype(value.dtype) for name, value in old.items()
            }
        yield Step(moving, [models[i] for i in moving], round + 1)
