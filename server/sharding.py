"""Training in shards: a model for each, which share the initialisation and nothing else, merged where one is released.

SISA (Bourtoule et al., IEEE S&P 2021) and KNOT (Su and Li, INFOCOM 2023). Who belongs to which shard depends on the
scenario's seed and on nothing that a client holds; the merged model goes out and never comes back.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from palimpsest.server.algorithms.step import Step
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.records import Array, Forget, Params
from palimpsest.simulator.world.seeding import generator

Algorithm = Callable[[Setup, Sequence[Lineage], Sequence[Params], Federation], Iterator[Step]]


@lru_cache(maxsize=4)
def _dealt(seed: int, clients: int, shards: int) -> tuple[Array, ...]:
    """The clients of every shard: worked out once, since every round asks."""
    order = generator(seed, "shards").permutation(clients)
    return tuple(np.sort(order[shard::shards]) for shard in range(shards))


def members(setup: Setup, shard: int) -> Array:
    """Clients of one shard, ascending: every S-th of a random order of all, whatever they hold."""
    return _dealt(setup.seed, len(setup.sizes), setup.plan.shards)[shard]


def shard_of(setup: Setup, client: int) -> int:
    """The shard of a client; it never changes."""
    return next(s for s in range(setup.plan.shards) if np.isin(client, members(setup, s)))


def by_shard(setup: Setup, forget: Forget) -> dict[int, Forget]:
    """Records by the shard of their clients, shards ascending."""
    shards = {client: shard_of(setup, client) for client in forget}
    return {s: {client: forget[client] for client in forget if shards[client] == s} for s in sorted({*shards.values()})}


def seats(setup: Setup, shard: int) -> int:
    """How many of a round's ``clients_per_round`` are a shard's own; 0: all it has."""
    share, left = divmod(setup.plan.clients_per_round, setup.plan.shards)
    return share + (shard < left)


def merged(models: Sequence[Params]) -> Params:
    """The mean of the shards' parameters: equal weights, which no deletion changes.

    Example:
        >>> merged([{"bias": np.array([0.0, 2.0])}, {"bias": np.array([1.0, 4.0])}])["bias"].tolist()
        [0.5, 3.0]
    """
    first = models[0]
    return {
        name: np.mean([np.asarray(model[name], np.float64) for model in models], axis=0).astype(value.dtype)
        for name, value in first.items()
    }


def rounds(
    algorithm: Algorithm,
    setup: Setup,
    lineages: Sequence[Lineage],
    starts: Sequence[Sequence[Params]],
    federation: Federation,
) -> Iterator[Step]:
    """Train every lineage's shards side by side, each from its own start; yield the merged models of each round.

    Where working models are handed on, those of the shards come first: each is broadcast to its shard's clients.
    """
    count = setup.plan.shards
    parts = [
        replace(lineage, shard=shard, states=lineage.states[shard : shard + 1])
        for lineage in lineages
        for shard in range(count)
    ]
    models = [model for of_shards in starts for model in of_shards]
    states = [part.states for part in parts]
    for step in algorithm(setup, parts, models, federation):
        if step.phase == "working":
            yield replace(step, lineages=[i // count for i in step.lineages])
            continue
        for i, model in zip(step.lineages, step.models, strict=True):
            models[i] = model
        for i, state in zip(step.lineages, step.states, strict=False):
            states[i] = state
        moved = sorted({i // count for i in step.lineages})
        apart = [models[count * i : count * (i + 1)] for i in moved]
        if setup.keep_working:
            for shard in range(count):
                yield Step(moved, [of_shards[shard] for of_shards in apart], step.round, phase="working")
        behind = [sum(states[count * i : count * (i + 1)], ()) for i in moved] if step.states else []
        yield Step(moved, [merged(of_shards) for of_shards in apart], step.round, shards=apart, states=behind)
