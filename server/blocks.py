"""Who takes part in a round, and how the participants are cut into blocks."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from server.setup import Lineage, Setup
from server.sharding import members, seats
from simulator.world.models import flat
from simulator.world.protocols import Block, BlockResult, Drift
from simulator.world.records import Array, Params
from simulator.world.seeding import generator


def cohort(setup: Setup, lineage: Lineage, round: int) -> tuple[int, ...]:
    """Draw the clients of one round: a function of sizes, seed and stream, never of records."""
    shard, plan = lineage.shard, setup.plan
    rng = generator(setup.seed, *lineage.cohorts, round, *(() if shard is None else (shard,)))
    eligible = np.arange(len(setup.sizes)) if shard is None else members(setup, shard)
    if lineage.cohorts_of_rest:
        left = setup.sizes.copy()
        for client, records in lineage.forget.items():
            left[client] -= len(records)
        eligible = eligible[left[eligible] > 0]
    if plan.sampling_rate:
        return tuple(eligible[rng.random(len(eligible)) < plan.sampling_rate].tolist())
    wanted = min((plan.clients_per_round if shard is None else seats(setup, shard)) or len(eligible), len(eligible))
    return tuple(rng.choice(eligible, size=wanted, replace=False).tolist())


def cut(setup: Setup, lineage: Lineage, model: int, clients: Sequence[int]) -> Iterator[Block]:
    """Cut clients into blocks, by size before any deletion and then id, so that no cut carries a trace of one."""
    ordered = sorted(clients, key=lambda client: (-int(setup.sizes[client]), client))
    for begin in range(0, len(ordered), setup.block_size):
        members = tuple(ordered[begin : begin + setup.block_size])
        yield Block(
            model=model,
            branch=lineage.branch,
            clients=members,
            forget={client: lineage.forget[client] for client in members if client in lineage.forget},
            batches=lineage.batches,
            compact=lineage.compact,
        )


def of_round(setup: Setup, lineages: Sequence[Lineage], moving: Sequence[int], round: int) -> list[Block]:
    """Blocks of the cohorts of one round; model i is that of the i-th lineage in ``moving``."""
    return [
        block
        for position, i in enumerate(moving)
        for block in cut(setup, lineages[i], position, cohort(setup, lineages[i], round))
    ]


def everyone(setup: Setup, lineages: Sequence[Lineage]) -> list[Block]:
    """Blocks over all clients, for every lineage: model i is lineage i's."""
    clients = range(len(setup.sizes))
    return [block for i, lineage in enumerate(lineages) for block in cut(setup, lineage, i, clients)]


def add_up(blocks: Sequence[Block], results: Sequence[BlockResult], models: int) -> list[BlockResult | None]:
    """Add block results in block order, for each model; None where a model had no block."""
    totals: list[BlockResult | None] = [None] * models
    for block, result in zip(blocks, results, strict=True):
        so_far = totals[block.model]
        totals[block.model] = result if so_far is None else _plus(so_far, result)
    return totals


def weighted_mean(updates: Mapping[int, Array], weights: Array) -> Array:
    """Mean of clients' updates, at least one, by ``[clients]`` weights; 0 if they weigh nothing."""
    own = weights[list(updates)].astype(np.float64)
    mean: Array = own @ np.stack(list(updates.values())) / max(own.sum(), 1.0)
    return mean


def mean_gradient(result: BlockResult) -> Array:
    """Mean over a block's records, in the order of ``flat``; 0 if it has none."""
    return flat(result.sums) / max(result.weight, 1.0)


def drift(updates: Mapping[int, Array], weights: Array) -> Drift:
    """How far one round's mean update moved because of each of its clients."""
    total = float(weights[list(updates)].sum()) if updates else 0.0
    if total == 0.0:
        return Drift({}, {}, 0.0)
    mean = weighted_mean({client: update.astype(np.float64) for client, update in updates.items()}, weights)
    shares = {client: float(weights[client]) / total for client in updates if weights[client]}
    pulls = {client: share * float(np.linalg.norm(updates[client] - mean)) for client, share in shares.items()}
    return Drift(shares, pulls, float(np.linalg.norm(mean)))


def per_client(blocks: Sequence[Block], results: Sequence[BlockResult], models: int) -> list[dict[int, Array]]:
    """For each model client -> its own update as one vector, in the order of ``flat``."""
    found: list[dict[int, Array]] = [{} for _ in range(models)]
    for block, result in zip(blocks, results, strict=True):
        rows = np.concatenate([result.each[name].reshape(len(block.clients), -1) for name in sorted(result.each)], 1)
        found[block.model] |= dict(zip(block.clients, rows, strict=True))
    return found


def _plus(one: BlockResult, other: BlockResult) -> BlockResult:
    sums: Params = {name: one.sums[name] + other.sums[name] for name in one.sums}
    metrics = {name: one.metrics[name] + other.metrics[name] for name in one.metrics}
    return BlockResult(sums, one.weight + other.weight, metrics)
