"""Ridge solved from federated sufficient statistics."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from server.aggregation import solved_ridge
from server.algorithms.perturbation import drawn
from server.algorithms.step import Step
from server.blocks import everyone
from server.setup import Lineage, Setup
from simulator.world.models import theta
from simulator.world.protocols import Federation, Statistics
from simulator.world.records import Params


def rounds(
    setup: Setup, lineages: Sequence[Lineage], starts: Sequence[Params], federation: Federation
) -> Iterator[Step]:
    """Yield the exact minimiser once for each lineage, as the defense lets it be known.

    Clients send X~^T X~ and X~^T Y of what they retain; a perturbation b of the objective is taken off X~^T Y, in what
    the server keeps too. ``starts`` do not matter, the optimum is unique. Lineages come one after the other, since a
    Gram matrix each would not fit at once; a block that forgets nothing is asked once.
    """
    untouched: dict[tuple[int, ...], Statistics] = {}
    for i, lineage in enumerate(lineages):
        blocks = everyone(setup, [lineage])
        asked = [block for block in blocks if block.forget or block.clients not in untouched]
        answers = dict(zip([block.clients for block in asked], federation.statistics(setup.spec, asked), strict=True))
        untouched |= {block.clients: answers[block.clients] for block in asked if not block.forget}
        total = _sum([answers.get(block.clients) or untouched[block.clients] for block in blocks])
        if setup.plan.perturbation:
            total = replace(total, moment=total.moment - theta(drawn(setup, lineage.perturbation)))
        model = solved_ridge(setup, lineage.branch, lineage.forget, lineage.noise, total)
        yield Step([i], [model], 1, statistics=[total])


def _sum(parts: Sequence[Statistics]) -> Statistics:
    """Add up in block order."""
    return Statistics(
        gram=sum((part.gram for part in parts[1:]), start=parts[0].gram),
        moment=sum((part.moment for part in parts[1:]), start=parts[0].moment),
        count=sum(part.count for part in parts),
    )
