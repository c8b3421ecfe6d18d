"""Exact unlearning of ridge by taking the deleted records out of its sufficient statistics."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar, Literal

from palimpsest.server.algorithms.ridge import RidgeSolver
from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import linear_params
from palimpsest.simulator.world.protocols.federation import Block, Federation
from palimpsest.simulator.world.protocols.forecast import Forecast, Workload
from palimpsest.simulator.world.protocols.questions import RidgeFactors
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Release
from palimpsest.simulator.world.specs import Frozen


class Downdate(Frozen):
    """Subtract the deleted records' X^T X and X^T Y, and solve again.

    Guarantee: exact up to rounding (equal to a refit to 1e-10 in float64; the subtraction leaves a residue, so not bit
    for bit). Cost: one message of the leavers, who must be online, and a rank-k solve. The server keeps one matrix of
    ``(d + 1)^2`` float64. The leaver's message about a single record reveals that record to the server (x x^T has rank
    one), not to the eavesdropper. Under a private defense the exact statistics are solved again with fresh noise.
    """

    card: ClassVar[Card] = CARDS["downdate"]
    method: Literal["downdate"] = "downdate"

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield one release a case; branches that share their statistics share one factorisation."""
        solvers: dict[int, RidgeSolver] = {}
        blocks = [
            Block(model=0, branch=case.branch, clients=tuple(case.request.forget), forget=case.request.forget)
            for case in cases
        ]
        for case, factor in zip(cases, federation.ask(RidgeFactors(history.record.spec, blocks)), strict=True):
            kept = case.statistics
            if kept is None:
                raise ValueError("downdate needs the statistics that closed-form training keeps")
            if id(kept) not in solvers:
                solvers[id(kept)] = RidgeSolver(kept, history.record.spec.regularisation)
            model = history.retrainer.private_ridge(case, partial(kept.less, factor))
            if model is None:
                model = linear_params(solvers[id(kept)].without(factor))
            yield Outcome(Release(case.branch, case.round, "unlearning", model), taken=factor)

    def forecast(self, work: Workload) -> Forecast:
        """Every leaver answers once."""
        return Forecast(0, sum(len(request.forget) for request in work.requests), len(work.requests))

    def public_rule(self) -> tuple[str, float]:
        """Both models are optima: their difference is the inverse Hessian times a gradient."""
        return "hessian", 1.0
