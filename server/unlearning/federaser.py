"""Approximate unlearning by replaying the stored updates, each turned into a fresh direction."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.blocks import weighted_mean
from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.unlearning import History, KeptUpdates, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Array, Params, Release
from palimpsest.simulator.world.specs import Frozen


class FedEraser(Frozen):
    """Replay every dt-th round without the leavers: stored length, calibrated direction (Liu et al., IWQoS 2021).

    From the initial model: in stored round t each retained client k of its cohort trains for r E epochs from the
    model unlearned so far, which gives u'_k; the server steps by the weighted mean over k of ||u_k^t|| u'_k / ||u'_k||,
    u_k^t being what k sent in the SAME round of training. The first round needs no calibration: its start was the
    initial model.

    As in the paper, lengths and directions are of a client's whole update. The authors' code takes both layer by layer,
    of the clients' mean update, so that a layer keeps its length there and not here. The T / dt steps that
    are replayed are as long as they were: with dt > 1 the model goes a part of the way only, and loses utility where
    the training had not settled.

    Guarantee: none, but for this: with dt = 1, r = 1 and nobody forgotten it reproduces the training. Cost: T / dt
    rounds of r E epochs, without the leavers. The server keeps the update of every client in every round (all rounds:
    the same history serves any dt), and sees single clients' messages.

    Attributes:
        interval: dt, as in the authors' code.
        ratio: r, as in the authors' code; at least one epoch is run.
    """

    card: ClassVar[Card] = CARDS["federaser"]
    method: Literal["federaser"] = "federaser"
    interval: int = Field(default=1, ge=1)
    ratio: float = Field(default=0.5, gt=0, le=1)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the model after every replayed round; the rounds of all cases run together."""
        kept = history.record.updates
        if kept is None:
            raise ValueError("federaser needs the updates of single clients, and this history has none")
        models = [history.record.released(0) for _ in cases]
        for round in kept.rounds[:: self.interval]:
            moving = [i for i, case in enumerate(cases) if case.request.round > round]
            steps = self._steps(history, kept, round, [cases[i] for i in moving], [models[i] for i in moving])
            for i, step in zip(moving, steps, strict=True):
                models[i] = models[i] if step is None else unflat(flat(models[i]) + step, models[i])
                yield Outcome(Release(cases[i].branch, round + 1, "unlearning", models[i]))

    def public_rule(self) -> tuple[str, float]:
        """Rounds of shortened training, at the stored lengths, lead to no optimum."""
        return "unknown", 1.0

    def _steps(
        self,
        history: History,
        kept: KeptUpdates,
        round: int,
        cases: Sequence[UnlearningCase],
        models: Sequence[Params],
    ) -> list[Array | None]:
        """The step of each case in one stored round; None where nobody of its cohort is left."""
        clients, rows = kept.read(round)
        left = [[client for client in clients if client not in case.forgotten] for case in cases]
        stored = dict(zip(clients, rows, strict=True))
        if round == 0:
            fresh = [{client: stored[client] for client in present} for present in left]
        else:
            fresh = history.retrainer.calibrate(cases, models, left, round, self.ratio)
        return [
            weighted_mean(((k, _rescaled(u, stored[k])) for k, u in present.items()), history.record.weights)
            if any(history.record.weights[client] for client in present)
            else None
            for present in fresh
        ]


def _rescaled(direction: Array, stored: Array) -> Array:
    """``direction`` at the length of ``stored``, float64; no direction stays none."""
    wide = direction.astype(np.float64)
    norm = float(np.linalg.norm(wide))
    return wide * (float(np.linalg.norm(stored)) / norm) if norm > 0.0 else wide
