"""Approximate unlearning by projected gradient ascent at the leaver."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from palimpsest.simulator.world.records import Array, Forget, Params, Release
from palimpsest.simulator.world.specs import Frozen

INITIALISATIONS = 10
"""Random models whose mean distance from the reference sets the radius."""


class Pga(Frozen):
    """The leaver ascends its own loss inside a ball around a model without it, then recovery (Halimi et al. 2022).

    reference = (theta - p theta_i) / (1 - p): theta_i the leaver's model after one fresh local round from theta, p its
    share of the weights. From the reference the leaver takes ``epochs`` passes over its records, in minibatches of the
    training's size: each steps by eta times its mean gradient, clipped to length ``clip``, with momentum, and back onto
    the ball of radius delta where it left it; delta is a third of the mean distance from the reference to freshly
    initialised models. It stops after a pass in which fewer records than the threshold were still answered rightly.

    Not as in the authors' code: that compares squared distances, which makes its ball wider by 3^(1/2), and stops where
    the model is so far from the leaver's; the threshold of accuracy is the paper's.

    Guarantee: none. Cost: one local round and ``epochs`` passes of the leavers, who must be online, and ``rounds``
    rounds of recovery. The server keeps nothing, and sees the leaver's messages alone. Reports how often the
    projection fired, in how many steps.

    Attributes:
        learning_rate, momentum: eta and the momentum of the ascent, as in the authors' code.
        epochs: passes over the leaver's records, at most, as in the authors' code.
        clip: bound on the length of a minibatch's mean gradient, as in the authors' code.
        stop_accuracy: the threshold, as in the paper (classes only).
        rounds: of recovery; default: ours.
    """

    card: ClassVar[Card] = CARDS["pga"]
    method: Literal["pga"] = "pga"
    learning_rate: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    epochs: int = Field(default=5, ge=1)
    clip: float = Field(default=5.0, gt=0)
    stop_accuracy: float = Field(default=0.12, ge=0, le=1)
    rounds: int = Field(default=5, ge=0)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the model after the ascent and after every round of recovery, all cases together."""
        updates = history.retrainer.leavers_update(cases, [case.before for case in cases])
        walks = []
        for case, update in zip(cases, updates, strict=True):
            centre = _reference(history, case, update)
            order = history.retrainer.noise("pga-batches", case)
            walks.append(_Walk(case, centre, _radius(history, case, centre), order, centre, np.zeros_like(centre)))
        for _ in range(self.epochs):
            self._pass(history, federation, [walk for walk in walks if not walk.gave_up(self.stop_accuracy)])
        for walk in walks:
            notes = {"steps": walk.steps, "projections": walk.projections, "radius": walk.radius}
            yield Outcome(Release(walk.case.branch, walk.case.round, "unlearning", walk.model), notes=notes)
        yield from history.retrainer.recover(cases, [walk.model for walk in walks], self.rounds)

    def public_rule(self) -> tuple[str, float]:
        """An ascent in a ball and a few rounds of recovery lead to no optimum."""
        return "unknown", 1.0

    def _pass(self, history: History, federation: Federation, walks: Sequence["_Walk"]) -> None:
        """One pass of every walk over its leavers' records, all walks together."""
        left = [walk.minibatches(history.record.batch_size) for walk in walks]
        for step in range(max(map(len, left), default=0)):
            asked = [(walk, batches[step]) for walk, batches in zip(walks, left, strict=True) if step < len(batches)]
            blocks = [Block(i, walk.case.branch, tuple(forget), forget) for i, (walk, forget) in enumerate(asked)]
            models = [walk.model for walk, _ in asked]
            answers = federation.ask(Gradient(history.record.spec, blocks, models, of="forgotten"))
            for (walk, _), answer in zip(asked, answers, strict=True):
                walk.step(answer, self)


@dataclass
class _Walk:
    """One case's ascent.

    Attributes:
        case: whose.
        centre, radius: of the ball.
        order: randomness of the minibatches.
        point, speed: where it is, and its momentum.
        steps, projections: how many.
        right, seen: records answered rightly in the newest pass, and read; of classes only.
    """

    case: UnlearningCase
    centre: Array
    radius: float
    order: np.random.Generator
    point: Array
    speed: Array
    steps: int = 0
    projections: int = 0
    right: float = 0.0
    seen: float = 0.0

    @property
    def model(self) -> Params:
        """The point as parameters."""
        return unflat(self.point, self.case.before)

    def gave_up(self, threshold: float) -> bool:
        """Whether the newest pass answered less than this share of the records rightly."""
        return self.right < threshold * self.seen

    def minibatches(self, size: int) -> list[Forget]:
        """Begin a pass: the leavers' records in a fresh order, cut into minibatches."""
        self.right = self.seen = 0.0
        records = [(client, record) for client, records_of in self.case.request.forget.items() for record in records_of]
        mixed = [records[i] for i in self.order.permutation(len(records))]
        return [_by_client(mixed[begin : begin + size]) for begin in range(0, len(mixed), size)]

    def step(self, answer: BlockResult, how: Pga) -> None:
        """Ascend by one minibatch's gradient, and back onto the ball where that left it."""
        if "correct" in answer.metrics:
            self.right += answer.metrics["correct"]
            self.seen += answer.weight
        gradient = mean_gradient(answer)
        length = float(np.linalg.norm(gradient))
        clipped = gradient * (how.clip / length) if length > how.clip else gradient
        self.speed = how.momentum * self.speed + clipped
        stepped = self.point + how.learning_rate * self.speed
        distance = float(np.linalg.norm(stepped - self.centre))
        outside = distance > self.radius
        self.point = self.centre + (self.radius / distance) * (stepped - self.centre) if outside else stepped
        self.projections += outside
        self.steps += 1


def _by_client(records: Sequence[tuple[int, int]]) -> Forget:
    """(client, record) pairs as client -> ascending records."""
    clients = sorted({client for client, _ in records})
    return {client: tuple(sorted(r for c, r in records if c == client)) for client in clients}


def _reference(history: History, case: UnlearningCase, update: Array) -> Array:
    """The model that the others would average to; theta itself where there are no others."""
    weights = history.record.weights
    leaving = float(weights[list(case.request.forget)].sum())
    gone = float(weights[[client for client in case.forgotten if client not in case.request.forget]].sum())
    share = leaving / (float(weights.sum()) - gone)
    theta = flat(case.before)
    others: Array = theta if share == 1.0 else (theta - share * (theta + update)) / (1.0 - share)
    return others


def _radius(history: History, case: UnlearningCase, centre: Array) -> float:
    model, rng = model_of(history.record.spec), history.retrainer.noise("pga", case)
    return float(np.mean([np.linalg.norm(flat(model.init(rng)) - centre) for _ in range(INITIALISATIONS)])) / 3.0
