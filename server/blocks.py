"""Who takes part in a round, and how the participants are cut into blocks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from palimpsest.server.setup import Lineage, Setup
from palimpsest.server.sharding import members, seats
from palimpsest.simulator.world.data.sites import site_of
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.defense import Memory
from palimpsest.simulator.world.protocols.federation import Block, BlockResult, Federation
from palimpsest.simulator.world.protocols.questions import Train
from palimpsest.simulator.world.protocols.unlearning import Drift
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.seeding import generator, part_of
from palimpsest.simulator.world.specs import Recipe


def cohort(setup: Setup, lineage: Lineage, round: int) -> tuple[int, ...]:
    """Draw the clients of one round: a function of sizes, seed and stream, never of records.

    Under privacy everybody stays eligible: who has nothing left contributes null. Where privacy counts on the draw, the
    draw is fresh for whatever is broadcast.
    """
    shard, plan = lineage.shard, setup.plan
    stream = part_of(lineage.noise, "cohorts") if setup.private and setup.amplified else lineage.cohorts
    rng = generator(setup.seed, *stream, round, *(() if shard is None else (shard,)))
    absent = np.zeros(0, dtype=np.int64)
    if lineage.cohorts_of_rest and not setup.private:
        absent = _without_records(setup, lineage)
    present = None if shard is None else _but(members(setup, shard), absent)
    eligible = len(setup.sizes) - len(absent) if present is None else len(present)
    if plan.sampling_rate:  # how many of so many coins show heads, then which: nothing grows with the population
        wanted = int(rng.binomial(eligible, plan.sampling_rate))
    else:
        wanted = min((plan.clients_per_round if shard is None else seats(setup, shard)) or eligible, eligible)
    ranks = rng.choice(eligible, size=wanted, replace=False)
    if present is not None:
        return tuple(present[ranks].tolist())
    # The r-th of those present has id r + the number of absent ones before it.
    return tuple((ranks + np.searchsorted(absent - np.arange(len(absent)), ranks, side="right")).tolist())


def _without_records(setup: Setup, lineage: Lineage) -> Array:
    """Ascending ids of the clients that have nothing left."""
    emptied = [client for client, records in lineage.forget.items() if len(records) >= setup.sizes[client]]
    return np.union1d(setup.empty, np.asarray(emptied, dtype=np.int64))


def _but(clients: Array, absent: Array) -> Array:
    return clients[~np.isin(clients, absent)]


def expected_cohort(setup: Setup, lineage: Lineage) -> float:
    """Clients that a round expects: a constant of the training, whoever comes or has left."""
    shard, plan = lineage.shard, setup.plan
    clients = len(setup.sizes) if shard is None else len(members(setup, shard))
    wanted = (plan.clients_per_round if shard is None else seats(setup, shard)) or clients
    return plan.sampling_rate * clients or float(min(wanted, clients))


def cut(
    setup: Setup, lineage: Lineage, model: int, clients: Sequence[int], update_clip: float = 0.0
) -> Iterator[Block]:
    """Cut clients into blocks by site, then size before any deletion, then id: blocks tell nothing of deletions."""
    ids = np.asarray(clients, dtype=np.int64)
    homes = site_of(ids, len(setup.sizes), setup.sites)
    order = np.lexsort((ids, -setup.sizes[ids], homes))
    for home in np.split(ids[order], 1 + np.flatnonzero(np.diff(homes[order]))):
        for begin in range(0, len(home), setup.block_size):
            members = tuple(home[begin : begin + setup.block_size].tolist())
            yield Block(
                model=model,
                branch=lineage.branch,
                clients=members,
                forget={client: lineage.forget[client] for client in members if client in lineage.forget},
                batches=lineage.batches,
                compact=lineage.compact,
                noise=setup.noise(lineage.noise),
                coins=lineage.coins,
                update_clip=update_clip,
            )


def of_round(
    setup: Setup, lineages: Sequence[Lineage], moving: Sequence[int], round: int, memories: Sequence[Memory]
) -> list[Block]:
    """Blocks of the cohorts of one round; model i is that of the i-th lineage in ``moving``.

    ``memories`` are the defense's, one for each lineage.
    """
    return [
        block
        for position, i in enumerate(moving)
        for block in cut(
            setup,
            lineages[i],
            position,
            cohort(setup, lineages[i], round),
            setup.defense.client_update(memories[i]),
        )
    ]


def everyone(setup: Setup, lineages: Sequence[Lineage]) -> list[Block]:
    """Blocks over all clients, for every lineage: model i is lineage i's."""
    clients = range(len(setup.sizes))
    return [block for i, lineage in enumerate(lineages) for block in cut(setup, lineage, i, clients)]


def add_up(blocks: Sequence[Block], results: Iterable[BlockResult], models: int) -> list[BlockResult | None]:
    """Add block results in block order, for each model; None where a model had no block.

    Results are taken one by one and not kept: of a stream of them, memory holds one sum a model.
    """
    totals: list[BlockResult | None] = [None] * models
    for block, result in zip(blocks, results, strict=True):
        so_far = totals[block.model]
        totals[block.model] = _alone(result) if so_far is None else _added(so_far, result)
    return totals


def weighted_mean(updates: Iterable[tuple[int, Array]], weights: Array) -> Array:
    """Mean of (client, update) pairs, at least one, by ``[clients]`` weights, in float64; 0 if they weigh nothing.

    Added up one by one: a round's updates are the largest thing a server holds, and need not be held twice.
    """
    total: Array | None = None
    weight = 0.0
    for client, update in updates:
        part = float(weights[client]) * update.astype(np.float64)
        weight += float(weights[client])
        total = part if total is None else np.add(total, part, out=total)
    if total is None:
        raise ValueError("no update to take the mean of")
    mean: Array = total / max(weight, 1.0)
    return mean


def mean_gradient(result: BlockResult) -> Array:
    """Mean over a block's records, in the order of ``flat``; 0 if it has none."""
    return flat(result.sums) / max(result.weight, 1.0)


def drift(updates: Mapping[int, Array], weights: Array) -> Drift:
    """How far one round's mean update moved because of each of its clients."""
    total = float(weights[list(updates)].sum()) if updates else 0.0
    if total == 0.0:
        return Drift({}, {}, 0.0)
    mean = weighted_mean(updates.items(), weights)
    shares = {client: float(weights[client]) / total for client in updates if weights[client]}
    pulls = {client: share * float(np.linalg.norm(updates[client] - mean)) for client, share in shares.items()}
    return Drift(shares, pulls, float(np.linalg.norm(mean)))


def per_client(blocks: Sequence[Block], results: Sequence[BlockResult], models: int) -> list[dict[int, Array]]:
    """For each model client -> its own update as one vector, in the order of ``flat``."""
    updates_of: list[dict[int, Array]] = [{} for _ in range(models)]
    for block, result in zip(blocks, results, strict=True):
        rows = np.concatenate([result.each[name].reshape(len(block.clients), -1) for name in sorted(result.each)], 1)
        updates_of[block.model] |= dict(zip(block.clients, rows, strict=True))
    return updates_of


def _alone(result: BlockResult) -> BlockResult:
    """Its sums in arrays of their own, which are added to: those of an answer are part of a message."""
    return BlockResult({name: np.array(value) for name, value in result.sums.items()}, result.weight, result.metrics)


def _added(total: BlockResult, result: BlockResult) -> BlockResult:
    """Add a result to the sums of a total, in place."""
    for name, value in total.sums.items():
        np.add(value, result.sums[name], out=value)
    metrics = {name: total.metrics[name] + result.metrics[name] for name in total.metrics}
    return BlockResult(total.sums, total.weight + result.weight, metrics)


def local_updates(
    setup: Setup,
    federation: Federation,
    lineages: Sequence[Lineage],
    models: Sequence[Params],
    clients: Sequence[Sequence[int]],
    round: int,
    recipe: Recipe,
) -> list[dict[int, Array]]:
    """For each lineage client -> its update from the lineage's model."""
    blocks = [b for i, lineage in enumerate(lineages) for b in cut(setup, lineage, i, clients[i])]
    results = federation.ask(Train(setup.spec, blocks, models, round, recipe, each=True)) if blocks else []
    return per_client(blocks, results, len(models))
