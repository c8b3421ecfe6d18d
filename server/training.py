"""One training of many lineages at once, whatever the algorithm."""

from collections.abc import Iterator, Sequence

from palimpsest.server import sharding
from palimpsest.server.algorithms import closed_form, fedavg, fedsgd, lbfgs
from palimpsest.server.algorithms.step import Step, check_finite
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.seeding import generator

ALGORITHMS = {
    "fedavg": fedavg.rounds,
    "fedsgd": fedsgd.rounds,
    "lbfgs": lbfgs.rounds,
    "closed-form": closed_form.rounds,
}


def train(
    setup: Setup,
    lineages: Sequence[Lineage],
    federation: Federation,
    starts: Sequence[Params] | None = None,
    shards: Sequence[Sequence[Params]] = (),
) -> Iterator[Step]:
    """Train lineages together, from their initialisations or from ``starts``, each from its ``first`` round.

    A training in shards goes on from each lineage's ``shards``: a merged model is no shard's start.
    """
    sharded = setup.plan.shards > 1 and any(lineage.shard is None for lineage in lineages)
    if starts is None:
        model = model_of(setup.spec)
        drawn = [] if setup.start else [model.init(generator(setup.seed, *lineage.init)) for lineage in lineages]
        starts = [setup.start] * len(lineages) if setup.start else drawn
        if setup.plan.algorithm in ("fedavg", "fedsgd"):
            shards = [[start] * setup.plan.shards for start in starts]
            yield Step(range(len(lineages)), starts, 0, shards=shards)
    elif sharded and not shards:
        raise ValueError("training in shards goes on from the shards' models, not from a merged one")
    algorithm = ALGORITHMS[setup.plan.algorithm]
    for step in (
        sharding.rounds(algorithm, setup, lineages, shards, federation)
        if sharded
        else algorithm(setup, lineages, starts, federation)
    ):
        for params in step.models:
            check_finite(params, f"round {step.round} of training")
        yield step
