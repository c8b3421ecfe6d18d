"""Approximate unlearning by several steps of gradient ascent at the client that asks, in an ordinary round."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Release
from palimpsest.simulator.world.specs import Ascent, Frozen


class LocalAscent(Frozen):
    """theta' = theta + mean update of a round: the leaver's by ascent on D_f, the cohort's by ordinary training.

    The leaver takes ``epochs`` passes of SGD up the mean loss of exactly the records that it deletes, in minibatches of
    the training's size, and sends the sum of its steps alone. Its update counts by the records that it had. Unlike
    ``ascent``, whose leaver sends a gradient that the server steps along. The form of optimisation-based unlearning
    that attacks on federated unlearning assume (Lamri et al., 2506.01777); its simplest case, without a term that
    keeps what is retained.

    Guarantee: none. Cost: one round, with the leaver, who must be online, and ``rounds`` rounds of recovery. The server
    keeps nothing; sums of cohorts are enough.

    Attributes:
        epochs: passes; default: ours.
        learning_rate: of the ascent; default: ours.
        rounds: of recovery; default: ours.
    """

    card: ClassVar[Card] = CARDS["local-ascent"]
    method: Literal["local-ascent"] = "local-ascent"
    epochs: int = Field(default=5, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)
    rounds: int = Field(default=0, ge=0)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the model of the round of ascent and of every round of recovery, all cases together."""
        models = history.retrainer.ascending_round(cases, Ascent(epochs=self.epochs, learning_rate=self.learning_rate))
        for case, model in zip(cases, models, strict=True):
            yield Outcome(Release(case.branch, case.round + 1, "unlearning", model))
        yield from history.retrainer.recover(cases, models, self.rounds, done=1)

    def public_rule(self) -> tuple[str, float]:
        """What the leaver adds is close to a gradient of D_f, of unknown length among the cohort's updates."""
        return "identity", 1.0
