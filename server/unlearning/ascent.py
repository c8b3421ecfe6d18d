"""Approximate unlearning by gradient ascent on what is to be forgotten."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.federation import Block, Federation
from palimpsest.simulator.world.protocols.forecast import Forecast, Workload
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Params, Release
from palimpsest.simulator.world.specs import Frozen


class Ascent(Frozen):
    """theta' = theta + eta * sum over D_f of grad l(theta), without the regulariser (Hu et al., IEEE S&P 2024).

    Guarantee: none. One step releases the deleted records' gradient itself: D = theta - theta' = -eta * gradient.
    Cost: ``steps`` gradients of the leavers' records, who must be online. The server keeps nothing. Under dp-sgd each
    record's gradient is clipped, each leaver adds noise to its sum, and the deleted records pay for every step.

    Attributes:
        learning_rate: eta; default: ours, the training's.
        steps: number of steps; only the last model is released.
        max_distance: bound on ||theta' - theta||_2: a step that would pass it is cut back to it; 0: unbounded.
    """

    card: ClassVar[Card] = CARDS["ascent"]
    method: Literal["ascent"] = "ascent"
    learning_rate: float = Field(default=0.05, gt=0)
    steps: int = Field(default=1, ge=1)
    max_distance: float = Field(default=0.0, ge=0)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Ascend on all cases together; yield one release a case."""
        models = [case.before for case in cases]
        blocks = [
            Block(
                model=position,
                branch=case.branch,
                clients=tuple(forget),
                forget=forget,
                noise=history.retrainer.noise_key("ascent", case),
            )
            for position, case in enumerate(cases)
            for forget in [case.request.forget]
        ]
        for step in range(self.steps):
            results = federation.ask(
                Gradient(history.record.spec, blocks, models, of="forgotten", private=history.record.private, step=step)
            )
            models = [
                self._step(case.before, model, result.sums)
                for case, model, result in zip(cases, models, results, strict=True)
            ]
        for case, model in zip(cases, models, strict=True):
            yield Outcome(Release(case.branch, case.round, "unlearning", model), statistics=case.statistics)

    def forecast(self, work: Workload) -> Forecast:
        """Every leaver answers once for each step."""
        leavers = sum(len(request.forget) for request in work.requests)
        return Forecast(0, self.steps * leavers, len(work.requests))

    def public_rule(self) -> tuple[str, float]:
        """One step leaves the gradient itself; several leave nearly ``steps`` times it."""
        return "identity", self.learning_rate * self.steps

    def _step(self, start: Params, model: Params, gradient: Params) -> Params:
        """Return ``model`` + eta * ``gradient``, kept in the ball around ``start``."""
        stepped = {
            name: (model[name] + self.learning_rate * gradient[name]).astype(model[name].dtype) for name in model
        }
        if self.max_distance == 0.0:
            return stepped
        distance = float(np.linalg.norm(flat(stepped) - flat(start)))
        scale = min(1.0, self.max_distance / distance) if distance > 0.0 else 1.0
        return {name: (start[name] + scale * (stepped[name] - start[name])).astype(start[name].dtype) for name in start}
