"""Approximate unlearning by steps that are orthogonal to what the others want."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.blocks import mean_gradient
from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.protocols.federation import Block, Federation
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Array, Params, Release
from palimpsest.simulator.world.specs import Frozen

ROUNDING = 1e-6
"""Share of a float32 gradient below which what is left of it is noise."""


class FedOsd(Frozen):
    """Orthogonal steepest descent on the leaver's unlearning loss, then recovery (FedOSD; Pan et al., AAAI 2025).

    Unlearning: g_u is the leavers' mean gradient of -log(1 - p_y / 2), the rows of A are the mean gradients of the
    retained clients of a fresh cohort, d = g_u - A^T (A A^T)^+ A g_u, brought back to the length of g_u, theta <-
    theta - eta d: to first order no client of the cohort loses. Recovery: ordinary rounds whose step is projected off
    theta - theta_0, theta_0 the model before the unlearning, so that they cannot walk back to it, and brought back to
    its length. Gradients are over all of a client's records.

    Not as in the authors' code: there the rows of A are all clients, in every step; here they are a cohort of those
    who stay, which is all of them where a round takes everybody. There every client's gradient of the recovery is
    projected and stretched before the mean is taken; here it is the mean step of a round of local training.

    Guarantee: none. Cost: ``steps`` gradients of the leavers, who must be online, and of a cohort, each client's seen
    alone, and ``rounds`` rounds of recovery. The server keeps the model before. Reports the mean share of ||g_u|| that
    the projection left.

    Attributes:
        learning_rate: eta; 4e-4 in the authors' code (for a CNN trained at 0.05).
        steps: of unlearning; 100 in the authors' code.
        rounds: of recovery. The authors take 100 single gradient steps at a rate of 1e-6, which no number of rounds of
            local training resembles; the default is ours, and the same for every method that recovers.
    """

    card: ClassVar[Card] = CARDS["fedosd"]
    method: Literal["fedosd"] = "fedosd"
    learning_rate: float = Field(default=4e-4, gt=0)
    steps: int = Field(default=100, ge=1)
    rounds: int = Field(default=5, ge=0)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the model after the unlearning steps and after every round of recovery, all cases together."""
        models, shares = [case.before for case in cases], np.zeros(len(cases))
        for step in range(self.steps):
            directions = _directions(history, federation, cases, models, step)
            for i, (wanted, allowed) in enumerate(directions):
                length = float(np.linalg.norm(wanted))
                shares[i] += float(np.linalg.norm(allowed)) / length / self.steps if length else 0.0
                models[i] = unflat(flat(models[i]) - self.learning_rate * _stretched(allowed, length), models[i])
        for case, model, share in zip(cases, models, shares, strict=True):
            released = Release(case.branch, case.round, "unlearning", model)
            yield Outcome(released, notes={"share_left": float(share)})
        for round in range(self.rounds):
            outcomes = {o.release.branch: o.release for o in history.retrainer.recover(cases, models, 1, done=round)}
            for i, case in enumerate(cases):
                stepped = outcomes[case.branch]
                models[i] = _without_return(models[i], stepped.params, case.before)
                yield Outcome(Release(case.branch, stepped.round, "recovery", models[i]))

    def public_rule(self) -> tuple[str, float]:
        """Steps off the others' gradients and a few rounds of recovery lead to no optimum."""
        return "unknown", 1.0


def _directions(
    history: History,
    federation: Federation,
    cases: Sequence[UnlearningCase],
    models: Sequence[Params],
    step: int,
) -> list[tuple[Array, Array]]:
    """For each case the leavers' gradient, and what of it is orthogonal to its cohort's."""
    leaving = [Block(i, c.branch, tuple(c.request.forget), c.request.forget) for i, c in enumerate(cases)]
    staying = [
        Block(i, c.branch, (k,), {k: c.forgotten[k]} if k in c.forgotten else {})
        for i, c in enumerate(cases)
        for k in history.retrainer.members(c, step)
    ]
    wanted = federation.ask(Gradient(history.record.spec, leaving, models, of="forgotten", loss="unlearning"))
    others: list[list[Array]] = [[] for _ in cases]
    for block, answer in zip(
        staying, federation.ask(Gradient(history.record.spec, staying, models)) if staying else [], strict=True
    ):
        others[block.model].append(mean_gradient(answer))
    return [
        (gradient, orthogonal_part(gradient, np.stack(rows)) if rows else gradient)
        for gradient, rows in zip(map(mean_gradient, wanted), others, strict=True)
    ]


def orthogonal_part(vector: Array, rows: Array) -> Array:
    """``vector`` - A^T (A A^T)^+ A ``vector``, A the rows at unit length (which leaves their span as it is)."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows[lengths[:, 0] > 0.0] / lengths[lengths[:, 0] > 0.0]
    left: Array = vector - unit.T @ (np.linalg.pinv(unit @ unit.T, hermitian=True) @ (unit @ vector))
    return left


def _without_return(model: Params, stepped: Params, origin: Params) -> Params:
    """``model`` moved by its step to ``stepped``, less the part along the way it came from ``origin``."""
    here = flat(model)
    step = flat(stepped) - here
    aside = orthogonal_part(step, (here - flat(origin))[None, :])
    return unflat(here + _stretched(aside, float(np.linalg.norm(step))), model)


def _stretched(part: Array, length: float) -> Array:
    """What a projection left of a vector, at the vector's length; zeros where it left nothing but rounding errors."""
    left = float(np.linalg.norm(part))
    return part * (length / left) if left > ROUNDING * length else np.zeros_like(part)
