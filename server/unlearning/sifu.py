"""Certified unlearning of clients: restore an early release, hide what the leaver moved in it, and train on."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.privacy.gaussian import gaussian_sigma
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Params, Release
from palimpsest.simulator.world.specs import Frozen


class Sifu(Frozen):
    """Restore the last release with Psi_k <= Psi*, add N(0, sigma^2), go on training (Fraboni et al., AISTATS 2024).

    Psi_k grows in each round by how far the round moved because of client k: p_k / (1 - p_k) ||theta_k - theta'||,
    theta_k its local model, theta' their mean, p_k its share of the cohort's records; for several leavers together by
    the sum of p_k ||theta_k - theta'|| over 1 - the sum of p_k.
    Psi* is the distance that noise of deviation sigma hides: sigma over the deviation that the analytic Gaussian
    mechanism (Balle and Wang 2018) asks for a distance of 1; the classical bound is invalid for epsilon above 1.

    Guarantee: certified(epsilon, delta) against who sees the models from the restored one on, under convexity: local
    steps must bring no two models further apart (convex losses, a learning rate of at most 2 / smoothness, no
    momentum), so that Psi_k bounds the distance to training without k in the same order. Networks are refused. That the
    rate is small enough is the user's to see to, and which release is restored depends on the data: the certificate is
    of the model, not of that choice. If a leaver never took part nothing changes; at the initial model there is nothing
    to hide, and no noise is added.

    In a chain of requests the way to the newest model is what a later request goes back on: the rounds before what was
    last restored, and those since. Going back behind that loses its noise, so that whom it hid counts again, together
    with the new leavers. Each request has a certificate of its own, against a server that had served the ones before;
    against a training without any of them they add up.

    Cost: the rounds after the restored one, without the leavers. The server keeps every release and, of every round, a
    number for each client, for which it sees single clients' updates. Reports the restored round, Psi there and Psi*.

    Attributes:
        epsilon: of the certificate, as in the example of the authors' code.
        delta: of the certificate; one over the clients in the authors' code, of whom the paper has 100.
        sigma: deviation of the noise, as in that example.
    """

    card: ClassVar[Card] = CARDS["sifu"]
    method: Literal["sifu"] = "sifu"
    epsilon: float = Field(default=10.0, gt=0)
    delta: float = Field(default=0.01, gt=0, lt=1)
    sigma: float = Field(default=0.05, gt=0)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the restored, noisy model of every case and every round after it, all cases together."""
        limit = self.sigma / gaussian_sigma(self.epsilon, self.delta, 1.0)
        moved, restored, notes = [], [], {}
        for case in cases:
            bounds = drift_bounds(history, case)
            round = max(t for t, bound in enumerate(bounds) if bound <= limit)
            notes[case.branch] = {"restored_round": round, "psi": bounds[round], "psi_limit": limit}
            if bounds[-1] == 0.0:
                yield Outcome(Release(case.branch, case.round, "unlearning", case.before), notes=notes[case.branch])
                continue
            model = history.record.released(round)
            noisy = self._noisy(history, case, model) if round > 0 else model
            moved.append(case)
            restored.append(Release(case.branch, round, "unlearning", noisy))
        for outcome in history.retrainer.resume(moved, restored):
            yield Outcome(outcome.release, notes=notes[outcome.release.branch])

    def public_rule(self) -> tuple[str, float]:
        """Both models are (near) optima: their difference is the inverse Hessian times a gradient."""
        return "hessian", 1.0

    def _noisy(self, history: History, case: UnlearningCase, model: Params) -> Params:
        vector = flat(model)
        return unflat(vector + self.sigma * history.retrainer.noise("sifu", case).standard_normal(vector.shape), model)


def drift_bounds(history: History, case: UnlearningCase) -> list[float]:
    """Psi of those who have to be gone, after 0, 1, ... rounds, up to the request.

    Where an earlier request had a release restored, its clients count from there on only: its noise hides the rest.
    """
    if history.record.drifts is None:
        raise ValueError("sifu needs how far single clients moved the model, and this history has no record of it")
    drifts, bounds = history.record.drifts[: case.round], list[float]()
    marks = sorted({0, *(restoration.round for restoration in history.record.restored)})
    for begin, end in zip(marks, [*marks[1:], len(drifts) + 1], strict=True):
        hidden = [restoration for restoration in history.record.restored if restoration.round <= begin]
        since = {
            k: max((restoration.round for restoration in hidden if k in restoration.clients), default=0)
            for k in case.forgotten
        }
        moved = [of.because_of([k for k in since if since[k] <= t]) for t, of in enumerate(drifts[: end - 1])]
        bounds += np.concatenate([[0.0], np.cumsum(moved)])[begin:end].tolist()
    return bounds
