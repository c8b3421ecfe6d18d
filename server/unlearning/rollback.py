"""Exact unlearning by training again from where the deleted records first took part."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.specs import Frozen


class Rollback(Frozen):
    """Restore the last release that D_f never touched, and train again from there in the same streams.

    After FATS (Tao et al., PVLDB 2024), where clients count equally and take a fixed number of steps on batches of a
    fixed size, drawn without a look at the data (``training.local_steps``): the first use of a record is then the first
    round with a batch that held it. With whole epochs a client visits all its records whenever it takes part, and
    counts for as many as it has: the first use of any of them is the client's first participation. FATS draws what
    follows afresh from the remaining records; here the original draws go on, with the deleted places left empty, so
    that the outcome can be compared with a retraining bit for bit.

    Guarantee: exact. What is released afterwards is bit for bit what retraining with ``coupling = "same-order"`` ends
    in, and a function of the retained records, their clients' sizes and the scenario's seed only. With a server that
    remembers gradients between rounds (momentum) the restored release would not be all that is needed, so that is
    refused. When it happens tells when D_f was first used, which depends on sizes and seed, not on its content.

    Cost: the rounds from the first use on; if D_f was never used, nothing. The server keeps every release, and who
    took part in which round.
    """

    card: ClassVar[Card] = CARDS["rollback"]
    method: Literal["rollback"] = "rollback"

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the restored release and every one after it; the rounds of all cases run together."""
        yield from history.retrainer.rollback(cases)

    def public_rule(self) -> tuple[str, float]:
        """Both models are (near) optima: their difference is the inverse Hessian times a gradient."""
        return "hessian", 1.0
