"""Exact unlearning of ridge by taking the deleted records out of its sufficient statistics."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from typing import ClassVar, Literal

from palimpsest.server.algorithms.ridge import RidgeSolver
from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import linear_params
from palimpsest.simulator.world.protocols.federation import Block, Factor, Federation
from palimpsest.simulator.world.protocols.forecast import Forecast, Workload
from palimpsest.simulator.world.protocols.questions import RidgeFactors
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Params, Release
from palimpsest.simulator.world.specs import Frozen

_TOGETHER = 256
"""Cases whose factors are held at once."""


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
        """Yield one release a case; branches that share their statistics share one factorisation.

        Factors are taken as they come, ``_TOGETHER`` at a time.
        """
        solvers: dict[int, RidgeSolver] = {}
        blocks = [
            Block(model=0, branch=case.branch, clients=tuple(case.request.forget), forget=case.request.forget)
            for case in cases
        ]
        factors = federation.stream(RidgeFactors(history.record.spec, blocks))
        pairs = zip(cases, factors, strict=True)
        while some := list(islice(pairs, _TOGETHER)):
            for _, alike in groupby(some, key=lambda pair: id(pair[0].statistics)):
                shared = list(alike)
                models = self._models(history, shared, solvers)
                for (case, factor), model in zip(shared, models, strict=True):
                    yield Outcome(Release(case.branch, case.round, "unlearning", model), taken=factor)

    def _models(
        self, history: History, shared: Sequence[tuple[UnlearningCase, Factor]], solvers: dict[int, RidgeSolver]
    ) -> Iterator[Params]:
        """The models without the factors, of cases that share their statistics."""
        kept = shared[0][0].statistics
        if kept is None:
            raise ValueError("downdate needs the statistics that closed-form training keeps")
        private = [history.retrainer.private_ridge(case, partial(kept.less, factor)) for case, factor in shared]
        noised = [model for model in private if model is not None]
        if noised:
            return iter(noised)
        if id(kept) not in solvers:
            solvers[id(kept)] = RidgeSolver(kept, history.record.spec.regularisation)
        return map(linear_params, solvers[id(kept)].without(factor for _, factor in shared))

    def forecast(self, work: Workload) -> Forecast:
        """Every leaver answers once."""
        return Forecast(0, sum(len(request.forget) for request in work.requests), len(work.requests))

    def public_rule(self) -> tuple[str, float]:
        """Both models are optima: their difference is the inverse Hessian times a gradient."""
        return "hessian", 1.0
