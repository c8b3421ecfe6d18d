"""Approximate unlearning by training on."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.forecast import Forecast, Workload
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.specs import Frozen


class Finetune(Frozen):
    """Ordinary rounds without D_f, in the hope that what is no longer trained on is forgotten.

    Guarantee: none. The baseline that every approximate method must beat at the same cost. Cost: ``rounds`` rounds of
    the retained clients; the server keeps nothing, and needs nobody who leaves.

    Attributes:
        rounds: of training on; as many as methods that recover take.
    """

    card: ClassVar[Card] = CARDS["finetune"]
    method: Literal["finetune"] = "finetune"
    rounds: int = Field(default=5, ge=1)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the release of every round; the rounds of all cases run together."""
        yield from history.retrainer.recover(cases, [case.before for case in cases], self.rounds)

    def forecast(self, work: Workload) -> Forecast:
        """Its own rounds, for each request."""
        rounds = self.rounds * len(work.requests)
        return Forecast(rounds, work.updates(rounds), rounds)

    def public_rule(self) -> tuple[str, float]:
        """After a few more rounds of training the model is at no optimum."""
        return "unknown", 1.0
