"""Approximate unlearning by negating the first layer."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.forecast import Forecast, Workload
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Release
from palimpsest.simulator.world.specs import Frozen


class Not(Frozen):
    """Negate the first layer's weights, then fine-tune on what is retained (NoT; Khalil et al., CVPR 2025).

    The bias stays. What it breaks is how the layers fit together: a linear model has none to break, and would come out
    with all its scores reversed, so it is refused.

    Guarantee: none. Cost: ``rounds`` rounds of the retained clients. The server keeps nothing, and needs nobody who
    leaves.

    Attributes:
        rounds: of fine-tuning; default: ours (the paper goes on until the accuracy is back).
    """

    card: ClassVar[Card] = CARDS["not"]
    method: Literal["not"] = "not"
    rounds: int = Field(default=5, ge=0)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the negated model and every round of fine-tuning, all cases together."""
        first = model_of(history.record.spec).names[0]
        models = [{**case.before, first: -case.before[first]} for case in cases]
        for case, model in zip(cases, models, strict=True):
            yield Outcome(Release(case.branch, case.round, "unlearning", model))
        yield from history.retrainer.recover(cases, models, self.rounds)

    def forecast(self, work: Workload) -> Forecast:
        """The negated model and its rounds of fine-tuning, for each request."""
        rounds = self.rounds * len(work.requests)
        return Forecast(rounds, work.updates(rounds), rounds + len(work.requests))

    def public_rule(self) -> tuple[str, float]:
        """With its first layer negated, the model reaches no optimum in a few more rounds of training."""
        return "unknown", 1.0
