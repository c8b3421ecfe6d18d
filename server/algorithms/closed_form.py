"""Ridge solved from federated sufficient statistics."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce

from palimpsest.server.aggregation import solved_ridge
from palimpsest.server.algorithms.perturbation import drawn
from palimpsest.server.algorithms.step import Step
from palimpsest.server.blocks import everyone
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.world.models.model import model_of, theta
from palimpsest.simulator.world.protocols.federation import Federation, Statistics
from palimpsest.simulator.world.protocols.questions import RidgeStatistics
from palimpsest.simulator.world.records import Params

_TOGETHER = 2**26
"""Bytes of Gram matrices that are asked for at once."""


def rounds(
    setup: Setup, lineages: Sequence[Lineage], starts: Sequence[Params], federation: Federation
) -> Iterator[Step]:
    """Yield the exact minimiser once for each lineage, after the defense.

    Clients send X~^T X~ and X~^T Y of what they retain; a perturbation b of the objective is taken off X~^T Y, in what
    the server keeps too. ``starts`` do not matter, the optimum is unique. A block that forgets nothing is asked once.
    Lineages come a few at a time, as a Gram matrix each would not fit at once, and those that the same clients leave in
    a row: hosts then read the others once.
    """
    untouched: dict[tuple[int, ...], Statistics] = {}
    together = max(1, _TOGETHER // (8 * (1 + model_of(setup.spec).shapes["weight"][1]) ** 2))
    order = sorted(range(len(lineages)), key=lambda i: tuple(lineages[i].forget))
    for begin in range(0, len(order), together):
        some = order[begin : begin + together]
        blocks = everyone(setup, [lineages[i] for i in some])
        touched = [block for block in blocks if block.forget]
        unseen = {b.clients: b for b in blocks if not b.forget and b.clients not in untouched}
        answers = federation.ask(RidgeStatistics(setup.spec, [*touched, *unseen.values()]))
        untouched |= zip(unseen, answers[len(touched) :], strict=True)
        changed = {(b.model, b.clients): answer for b, answer in zip(touched, answers, strict=False)}
        for position, i in enumerate(some):
            cohorts = [block.clients for block in blocks if block.model == position]
            parts = [changed.get((position, clients)) or untouched[clients] for clients in cohorts]
            lineage = lineages[i]
            total = reduce(Statistics.plus, parts)
            if setup.plan.perturbation:
                total = replace(total, moment=total.moment - theta(drawn(setup, lineage.perturbation)))
            model = solved_ridge(setup, lineage.branch, lineage.forget, lineage.noise, total)
            yield Step([i], [model], 1, statistics=[total])
