"""Certified unlearning by one Newton step on what is retained."""

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.algorithms.conjugate import Solve, solve
from palimpsest.server.blocks import add_up
from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.protocols.federation import Block, Federation
from palimpsest.simulator.world.protocols.questions import Gradient, Hessian
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Array, Params, Release
from palimpsest.simulator.world.specs import Frozen


class Newton(Frozen):
    """theta' = theta + H^-1 sum over D_f of grad l(theta), under a perturbed objective (Guo et al., ICML 2020).

    The training minimised sum l + lambda/2 ||theta||^2 + b^T theta with b ~ N(0, sigma^2) (``training.perturbation``);
    H is the Hessian of that objective over the retained records, applied by federated Hessian-vector products inside
    conjugate gradients. lambda does not change with n, so the regulariser leaves no term.

    Guarantee: certified(epsilon, delta): who sees the released model alone cannot tell it from a retraining's, as long
    as the gradient of the retained objective at theta' is at most sigma epsilon / c long, c = sqrt(2 ln(1.5 / delta)).
    That length is measured by the clients, so it holds whatever was left by the training, by conjugate gradients, by
    the quadratic approximation and by earlier requests. Where the budget is spent, the model is trained again with a
    new b. Exact for least squares, to rounding. It bounds the distance to a retraining, and protects nothing against
    who sees both models: their difference is H^-1 times the deleted records' gradient.

    Cost: a gradient of the leavers, who must be online, one full pass of everybody else for each product, and one for
    the residual. The server keeps b, which must stay secret. Reports the residual, the budget, and how often it had to
    retrain.

    Attributes:
        epsilon, delta: of the certificate, as the paper has them; the bound holds for epsilon up to 1.
        tolerance: of conjugate gradients, relative to the deleted records' gradient.
        max_products: Hessian-vector products at most.
    """

    card: ClassVar[Card] = CARDS["newton"]
    method: Literal["newton"] = "newton"
    epsilon: float = Field(default=1.0, gt=0, le=1)
    delta: float = Field(default=1e-4, gt=0, lt=1)
    tolerance: float = Field(default=1e-10, gt=0, lt=1)
    max_products: int = Field(default=500, ge=1)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield one release a case, or those of a retraining where the budget is spent."""
        leaving = [Block(i, c.branch, tuple(c.request.forget), c.request.forget) for i, c in enumerate(cases)]
        before = [case.before for case in cases]
        deleted = federation.ask(Gradient(history.record.spec, leaving, before, of="forgotten"))
        steps = self._newton_steps(history, federation, cases, [flat(answer.sums) for answer in deleted])
        models = [unflat(flat(case.before) + step, case.before) for case, step in zip(cases, steps, strict=True)]
        budget = history.record.perturbation * self.epsilon / math.sqrt(2.0 * math.log(1.5 / self.delta))
        residuals = self._residuals(history, federation, cases, models)
        spent = []
        for case, model, residual in zip(cases, models, residuals, strict=True):
            notes = {"residual": residual, "budget": budget, "retrained": float(residual > budget)}
            if residual > budget:
                spent.append((case, notes))
                continue
            release = Release(case.branch, case.round, "unlearning", model)
            yield Outcome(release, notes=notes, perturbation=case.perturbation)
        notes_of = {case.branch: notes for case, notes in spent}
        for outcome in history.retrainer.retrain([case for case, _ in spent], "independent") if spent else ():
            yield Outcome(
                outcome.release, outcome.statistics, notes_of[outcome.release.branch], perturbation=outcome.perturbation
            )

    def public_rule(self) -> tuple[str, float]:
        """The difference is the inverse Hessian times a gradient, by construction."""
        return "hessian", 1.0

    def _newton_steps(
        self, history: History, federation: Federation, cases: Sequence[UnlearningCase], gradients: Sequence[Array]
    ) -> list[Array]:
        """H^-1 gradient for every case; all of them ask the clients together."""
        solvers: list[Solve] = [solve(g, self.tolerance, self.max_products) for g in gradients]
        steps = [np.zeros_like(g) for g in gradients]
        asked: dict[int, Array] = {}
        products: dict[int, Array | None] = dict.fromkeys(range(len(cases)))
        while products:
            asked.clear()
            for i, product in products.items():
                try:
                    asked[i] = next(solvers[i]) if product is None else solvers[i].send(product)
                except StopIteration as done:
                    steps[i] = done.value
            products = dict(self._products(history, federation, cases, asked))
        return steps

    def _products(
        self, history: History, federation: Federation, cases: Sequence[UnlearningCase], asked: dict[int, Array]
    ) -> Iterator[tuple[int, Array]]:
        """Yield (case, H v) for each vector v that is asked for."""
        if not asked:
            return
        some = [cases[i] for i in asked]
        models, blocks = [case.before for case in some], history.retrainer.everyone(some)
        vectors = [unflat(vector, case.before) for vector, case in zip(asked.values(), some, strict=True)]
        totals = add_up(blocks, federation.stream(Hessian(history.record.spec, blocks, models, vectors)), len(some))
        for (i, vector), total in zip(asked.items(), totals, strict=True):
            curved = flat(total.sums) if total is not None else np.zeros_like(vector)
            yield i, curved + history.record.spec.regularisation * vector

    def _residuals(
        self, history: History, federation: Federation, cases: Sequence[UnlearningCase], models: Sequence[Params]
    ) -> list[float]:
        """Length of the gradient of each case's retained objective, perturbation included, at its model."""
        blocks = history.retrainer.everyone(cases)
        totals = add_up(blocks, federation.stream(Gradient(history.record.spec, blocks, models)), len(cases))
        lengths = []
        for case, model, total in zip(cases, models, totals, strict=True):
            data = flat(total.sums) if total is not None else 0.0
            gradient = data + history.record.spec.regularisation * flat(model) + history.record.slope(case.perturbation)
            lengths.append(float(np.linalg.norm(gradient)))
        return lengths
