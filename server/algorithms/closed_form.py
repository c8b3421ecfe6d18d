"""Ridge solved from federated sufficient statistics."""

from collections.abc import Iterator, Sequence

from server.algorithms.ridge import RidgeSolver
from server.algorithms.step import Step
from server.blocks import everyone
from server.setup import Lineage, Setup
from simulator.world.models import linear_params
from simulator.world.protocols import Federation, Statistics
from simulator.world.records import Params


def rounds(
    setup: Setup, lineages: Sequence[Lineage], starts: Sequence[Params], first: int, federation: Federation
) -> Iterator[Step]:
    """Yield the exact minimiser once for each lineage, one after the other: a Gram matrix each would not fit at once.

    Clients send X~^T X~ and X~^T Y of what they retain; ``starts`` do not matter, the optimum is unique.
    """
    for i, lineage in enumerate(lineages):
        parts = federation.statistics(setup.spec, everyone(setup, [lineage]))
        total = Statistics(
            gram=sum((part.gram for part in parts[1:]), start=parts[0].gram),
            moment=sum((part.moment for part in parts[1:]), start=parts[0].moment),
            count=sum(part.count for part in parts),
        )
        solution = RidgeSolver(total, setup.spec.regularisation).solution()
        yield Step([i], [linear_params(solution)], 1, statistics=[total])
