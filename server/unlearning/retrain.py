"""Exact unlearning by training again."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.forecast import Forecast, Workload
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.specs import Frozen


class Retrain(Frozen):
    """The whole training again without the deleted records; the reference for every other method.

    Guarantee: exact. What is released afterwards is a function of the retained records, their clients' sizes and the
    scenario's seed only. Cost: a whole training a request; the server keeps nothing for it.

    Attributes:
        coupling: how its randomness relates to the first training's. ``same-order``: same initialisation, cohorts and
            batches, the deleted records' slots left empty; ``reshuffled``: same initialisation and cohorts, a fresh
            permutation of what is left; ``independent``: initialisation, cohorts and batches drawn anew for each
            request. The attack's success depends on it more than on anything else. Under a defense with noise a
            retraining in the same order draws that noise anew, and so the coins of Poisson sampling; ``same-coins``:
            the same coins, fresh noise; ``same-noise``: the same of both, which protects nobody. These two tell what
            hides a record, the coins or the noise; under privacy who stays pays for repeated coins as if all records
            took part in every step, and everybody pays without limit for repeated noise.
    """

    card: ClassVar[Card] = CARDS["retrain"]
    method: Literal["retrain"] = "retrain"
    coupling: Literal["same-order", "same-coins", "same-noise", "reshuffled", "independent"] = "independent"

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield every release of every retraining; the rounds of all cases run together."""
        yield from history.retrainer.retrain(cases, self.coupling)

    def forecast(self, work: Workload) -> Forecast:
        """Rounds of a whole training for each request, and of those between it and its unlearning."""
        rounds = sum(request.round + work.rounds_between for request in work.requests)
        return Forecast(rounds, work.updates(rounds), rounds + work.starts * len(work.requests))

    def public_rule(self) -> tuple[str, float]:
        """Both models are (near) optima: their difference is the inverse Hessian times a gradient."""
        return "hessian", 1.0
