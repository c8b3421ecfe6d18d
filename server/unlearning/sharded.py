"""Exact unlearning by training again only the shards that held the deleted records."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.specs import Frozen


class Sharded(Frozen):
    """Train the shards that a request touches again, from their last clean checkpoint, and merge (SISA; KNOT).

    Bourtoule et al., IEEE S&P 2021; for clients in a federation Su and Li, INFOCOM 2023. ``training.shards`` = S deals
    the clients to S shards by the seed alone (KNOT optimises who trains with whom; to be exact that must not depend on
    what they hold). Each shard trains a model of its own from one common initialisation, and none ever sees another or
    what they are merged to. Released is the mean of the S models' parameters, with equal weights: one model of the
    same form as any other arm's. An ensemble of predictions, as in SISA, would have to release the shards' models
    themselves; for a network, whose models do not average well, it would be the better model.

    Guarantee: exact. What is released afterwards is bit for bit what training the S shards from the start without the
    records, in the same order, ends in. That needs, and has, shards that depend on no data, weights that no deletion
    changes, and a fixed number of rounds. It holds for requests that do not depend on what was released: which records
    share a shard stays as it was drawn, and who picks deletions by looking at the models learns about that draw.

    Cost: for each shard that is touched, its share of the rounds from the first use on. The server keeps the S models
    after every round. Only the merged model is a release; the shards' own models are broadcast to their clients, and
    heard where ``adversary.sees = "broadcasts"``.
    """

    card: ClassVar[Card] = CARDS["sharded"]
    method: Literal["sharded"] = "sharded"

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the merged model of every case; the rounds of all shards of all cases run together."""
        yield from history.retrainer.retrain_shards(cases)

    def public_rule(self) -> tuple[str, float]:
        """Both models are (near) optima: their difference is the inverse Hessian times a gradient."""
        return "hessian", 1.0
