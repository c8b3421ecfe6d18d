"""The request is recorded and ignored."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.forecast import Forecast, Workload
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Release
from palimpsest.simulator.world.specs import Frozen


class Ignore(Frozen):
    """Releases the model as it is: the baseline that tells the eavesdropper nothing and forgets nothing.

    Guarantee: none; no tombstone is set.
    """

    card: ClassVar[Card] = CARDS["none"]
    method: Literal["none"] = "none"

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the unchanged model, once a case."""
        for case in cases:
            release = Release(case.branch, case.round, "unlearning", case.before)
            yield Outcome(release, statistics=case.statistics, states=case.states)

    def forecast(self, work: Workload) -> Forecast:
        """Nothing is done; the unchanged model is broadcast again."""
        return Forecast(0, 0, len(work.requests))

    def public_rule(self) -> tuple[str, float]:
        """Nothing changes."""
        return "hessian", 1.0
