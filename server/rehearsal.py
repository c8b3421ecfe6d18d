"""What a training or an unlearning will spend of privacy: the server goes through it with clients that answer zeros.

Under privacy who takes part, and how often, is a function of sizes and seed alone, so a rehearsal charges an account
exactly what the performance will.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from palimpsest.server.history import History
from palimpsest.server.setup import Setup
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.privacy.account import Account
from palimpsest.simulator.world.protocols.federation import Answer, Question
from palimpsest.simulator.world.protocols.unlearning import Unlearner, UnlearningCase
from palimpsest.simulator.world.records import Forget


class SilentClients:
    """A ``Federation`` whose clients answer zeros, without being asked."""

    def ask(self, question: Question[Answer]) -> list[Answer]:
        """No updates, and sums over no records."""
        return question.zeros(model_of(question.spec).shapes)

    def stream(self, question: Question[Answer]) -> Iterator[Answer]:
        """The same, one by one."""
        return iter(self.ask(question))

    def tombstone(self, forget: Mapping[int, Forget]) -> None:
        """Nothing is deleted."""

    def readmit(self, branch: int, forget: Forget) -> None:
        """Nothing was deleted."""


def training_account(setup: Setup) -> Account:
    """The account of a training, without training."""
    history = History.of(replace(setup, account=Account(setup.account.unit, setup.sizes)), SilentClients())
    for _ in history.train():
        pass
    return history.record.setup.account


def unlearning_account(history: History, unlearner: Unlearner, cases: Sequence[UnlearningCase]) -> Account:
    """The account as it would stand after some cases, without processing them."""
    rehearsed = history.under(SilentClients())
    for _ in unlearner.unlearn(rehearsed, cases, rehearsed.retrainer.federation):
        pass
    return rehearsed.record.setup.account
