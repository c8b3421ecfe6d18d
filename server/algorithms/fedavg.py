"""Federated averaging (McMahan et al., AISTATS 2017) and the strategies built on it, for many models at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from palimpsest.server.aggregation import aggregated
from palimpsest.server.algorithms.step import Step
from palimpsest.server.blocks import add_up, of_round, per_client
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.world.models.batches import weigh
from palimpsest.simulator.world.protocols.federation import Block, BlockResult, Federation
from palimpsest.simulator.world.protocols.questions import Train
from palimpsest.simulator.world.protocols.strategy import Received, ServerState
from palimpsest.simulator.world.records import Array, Params


def rounds(
    setup: Setup, lineages: Sequence[Lineage], starts: Sequence[Params], federation: Federation
) -> Iterator[Step]:
    """Yield each round's models: theta moves by what the strategy makes of the round's updates.

    A lineage moves from its own ``first`` round to its own ``last``. A cohort without a single record left leaves its
    model, and the server's state, as they are. What clients train by, and what the sums become, is as the defense has
    it.
    """
    models, strategy = list(starts), setup.plan.strategy
    memories = [setup.remembered(lineage.first) for lineage in lineages]
    states = [lineage.states[0] if lineage.states else ServerState() for lineage in lineages]
    ends = [setup.plan.rounds if lineage.last is None else lineage.last for lineage in lineages]
    for round in range(min(lineage.first for lineage in lineages), max(ends)):
        moving = [i for i, lineage in enumerate(lineages) if lineage.first <= round < ends[i]]
        if not moving:
            continue
        if setup.keep_working:
            yield from _beside_the_model(setup, moving, models, states, round)
        blocks = [
            _shifted(setup, block, models[moving[block.model]], states[moving[block.model]])
            for block in of_round(setup, lineages, moving, round, memories)
        ]
        current, each = [models[i] for i in moving], setup.keep_updates or strategy.reads_single_updates
        question = Train(setup.spec, blocks, current, round, setup.recipe_of(round), each)
        results = federation.ask(question) if blocks and each else []
        sums = results if each or not blocks else federation.stream(question)
        for position, total in enumerate(add_up(blocks, sums, len(moving))):
            i = moving[position]
            answered = [pair for pair in zip(blocks, results, strict=each) if pair[0].model == position]
            came = [client for block in blocks if block.model == position for client in block.clients]
            through, memories[i] = aggregated(setup, lineages[i], round, models[i], total, came, memories[i])
            models[i], states[i] = _moved(setup, models[i], states[i], through, answered)
        updates = per_client(blocks, results, len(moving)) if setup.keep_updates else ()
        behind, remembered = [(states[i],) for i in moving], [memories[i] for i in moving]
        yield Step(moving, [models[i] for i in moving], round + 1, updates=updates, memories=remembered, states=behind)


def _moved(
    setup: Setup,
    model: Params,
    state: ServerState,
    total: BlockResult,
    answered: Sequence[tuple[Block, BlockResult]],
) -> tuple[Params, ServerState]:
    """The model and the server's state after a round; as they were where nobody with records came."""
    if total.weight == 0.0:
        return model, state
    mean = {name: total.sums[name] / total.weight for name in model}
    received = Received(mean)
    if setup.plan.strategy.reads_single_updates:
        received = _single(setup, mean, answered)
        if not received.clients:
            return model, state
    step, state = setup.plan.strategy.step(received, state)
    return {name: (value + step[name]).astype(value.dtype) for name, value in model.items()}, state


def _single(setup: Setup, mean: Params, answered: Sequence[tuple[Block, BlockResult]]) -> Received:
    """The updates of the clients that have records left, in block order."""
    left = [
        int(setup.sizes[client]) - (0 if setup.recipe.private else len(block.forget.get(client, ())))
        for block, _ in answered
        for client in block.clients
    ]
    clients = np.array([client for block, _ in answered for client in block.clients], dtype=np.int64)
    there = np.flatnonzero(weigh(np.array(left), setup.plan.recipe))
    each = _stacked([result.each for _, result in answered], there)
    controls = _stacked([result.controls for _, result in answered], there)
    return Received(mean, each, tuple(clients[there].tolist()), controls, int((setup.sizes > 0).sum()))


def _stacked(parts: Sequence[Mapping[str, Array]], there: Array) -> Params:
    """name -> ``[clients, ...]`` of some of the clients of several blocks."""
    return {name: np.concatenate([part[name] for part in parts])[there] for name in parts[0]}


def _shifted(setup: Setup, block: Block, model: Params, state: ServerState) -> Block:
    """The block with what the strategy has its clients add to their gradients."""
    shift = setup.plan.strategy.shifts(block.clients, state, model)
    return replace(block, shift=shift) if shift else block


def _beside_the_model(
    setup: Setup, moving: Sequence[int], models: Sequence[Params], states: Sequence[ServerState], round: int
) -> Iterator[Step]:
    """What the strategy broadcasts with the models of a round, one working step each."""
    for i in moving:
        if beside := setup.plan.strategy.broadcast(states[i]):
            heard = {name: np.asarray(beside[name], value.dtype) for name, value in models[i].items()}
            yield Step([i], [heard], round, phase="working")
