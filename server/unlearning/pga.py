"""Approximate unlearning by projected gradient ascent at the leaver."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.blocks import mean_gradient
from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import flat, model_of, unflat
from palimpsest.simulator.world.protocols.federation import Block, BlockResult, Federation
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Array, Release
from palimpsest.simulator.world.specs import Frozen

INITIALISATIONS = 10
"""Random models whose mean distance from the reference sets the radius."""


class Pga(Frozen):
    """The leaver ascends its own loss inside a ball around a model without it, then recovery (Halimi et al. 2022).

    reference = (theta - p theta_i) / (1 - p): theta_i the leaver's model after one fresh local round from theta, p its
    share of the weights. From the reference the leaver steps by eta times its mean gradient, clipped to length
    ``clip``, with momentum, and back onto the ball of radius delta where it left it; delta is a third of the mean
    distance from the reference to freshly initialised models. It stops where its accuracy is below the threshold.
    The paper steps on minibatches, for five epochs; here a step takes all of the leaver's records, which is the same
    for leavers of one batch at most. The authors' code compares squared distances: its ball is wider by 3^(1/2).

    Guarantee: none. Cost: one local round and ``steps`` gradients of the leavers, who must be online, and ``rounds``
    rounds of recovery. The server keeps nothing, and sees the leaver's messages alone. Reports how often the
    projection fired, in how many steps.

    Attributes:
        learning_rate, momentum: eta and the momentum of the ascent, as in the authors' code.
        steps: at most; the authors' five epochs.
        clip: bound on the length of the mean gradient, as in the authors' code.
        stop_accuracy: the threshold, as in the paper (classes only).
        rounds: of recovery; default: ours.
    """

    card: ClassVar[Card] = CARDS["pga"]
    method: Literal["pga"] = "pga"
    learning_rate: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    steps: int = Field(default=5, ge=1)
    clip: float = Field(default=5.0, gt=0)
    stop_accuracy: float = Field(default=0.12, ge=0, le=1)
    rounds: int = Field(default=5, ge=0)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the model after the ascent and after every round of recovery, all cases together."""
        updates = history.leavers_update(cases, [case.before for case in cases])
        centres = [_reference(history, case, update) for case, update in zip(cases, updates, strict=True)]
        radii = [_radius(history, case, centre) for case, centre in zip(cases, centres, strict=True)]
        points, fired, taken = list(centres), [0] * len(cases), [0] * len(cases)
        speeds = [np.zeros_like(centre) for centre in centres]
        climbing = list(range(len(cases)))
        for _ in range(self.steps):
            answers = self._ask(history, federation, cases, points, climbing)
            climbing = [i for i, answer in zip(climbing, answers, strict=True) if not self._done(answer)]
            for i, answer in zip(climbing, (a for a in answers if not self._done(a)), strict=True):
                speeds[i] = self.momentum * speeds[i] + self._clipped(mean_gradient(answer))
                points[i], outside = self._step(points[i], speeds[i], centres[i], radii[i])
                fired[i] += outside
                taken[i] += 1
            if not climbing:
                break
        models = [unflat(point, case.before) for point, case in zip(points, cases, strict=True)]
        for i, case in enumerate(cases):
            notes = {"steps": taken[i], "projections": fired[i], "radius": radii[i]}
            yield Outcome(Release(case.branch, case.round, "unlearning", models[i]), notes=notes)
        yield from history.recover(cases, models, self.rounds)

    def public_rule(self) -> tuple[str, float]:
        """Both models are (near) optima: their difference is the inverse Hessian times a gradient."""
        return "hessian", 1.0

    def _ask(
        self,
        history: History,
        federation: Federation,
        cases: Sequence[UnlearningCase],
        points: Sequence[Array],
        climbing: Sequence[int],
    ) -> list[BlockResult]:
        models = [unflat(points[i], cases[i].before) for i in climbing]
        blocks = [
            Block(position, cases[i].branch, tuple(cases[i].request.forget), cases[i].request.forget)
            for position, i in enumerate(climbing)
        ]
        return federation.ask(Gradient(history.spec, blocks, models, of="forgotten"))

    def _done(self, answer: BlockResult) -> bool:
        return "correct" in answer.metrics and answer.metrics["correct"] < self.stop_accuracy * answer.weight

    def _clipped(self, gradient: Array) -> Array:
        length = float(np.linalg.norm(gradient))
        return gradient * (self.clip / length) if length > self.clip else gradient

    def _step(self, point: Array, speed: Array, centre: Array, radius: float) -> tuple[Array, bool]:
        """One ascent step, and whether it had to be projected."""
        stepped = point + self.learning_rate * speed
        distance = float(np.linalg.norm(stepped - centre))
        if distance <= radius:
            return stepped, False
        return centre + (radius / distance) * (stepped - centre), True


def _reference(history: History, case: UnlearningCase, update: Array) -> Array:
    """The model that the others would average to; theta itself where there are no others."""
    leaving = float(history.weights[list(case.request.forget)].sum())
    gone = float(history.weights[[client for client in case.forgotten if client not in case.request.forget]].sum())
    share = leaving / (float(history.weights.sum()) - gone)
    theta = flat(case.before)
    others: Array = theta if share == 1.0 else (theta - share * (theta + update)) / (1.0 - share)
    return others


def _radius(history: History, case: UnlearningCase, centre: Array) -> float:
    model, rng = model_of(history.spec), history.noise("pga", case)
    return float(np.mean([np.linalg.norm(flat(model.init(rng)) - centre) for _ in range(INITIALISATIONS)])) / 3.0
