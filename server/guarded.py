"""Clients that add noise themselves: each question is charged to the account; one without noise is refused."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from palimpsest.server.setup import Setup
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.protocols.defense import Defense, private_part
from palimpsest.simulator.world.protocols.federation import Answer, Block, Federation, Question
from palimpsest.simulator.world.protocols.questions import Gradient, Train
from palimpsest.simulator.world.records import Forget
from palimpsest.simulator.world.specs import PrivateSteps, Recipe


class UnprotectedError(RunFailure):
    """Clients were asked a question that they would answer without noise, under a defense that promises privacy."""


def guarded(federation: Federation, setup: Setup) -> Federation:
    """The same federation, watched where the defense has clients add the noise."""
    inner = federation.inner if isinstance(federation, GuardedFederation) else federation
    part = private_part(setup.defense)
    return inner if part is None or part.card.pays_at != "local training" else GuardedFederation(inner, setup, part)


@dataclass(frozen=True)
class GuardedFederation:
    """A ``Federation`` that lets through only questions whose answers carry the clients' noise.

    Attributes:
        inner: the clients.
        setup: whose account is charged.
        defense: what the account charges for.
    """

    inner: Federation
    setup: Setup
    defense: Defense

    def ask(self, question: Question[Answer]) -> list[Answer]:
        """Charge local training and gradients with each client's noise, and refuse anything else.

        Single updates carry their client's noise, and are free to use.

        Raises:
            UnprotectedError: the answer would be in the clear.
        """
        self._charge(question)
        return self.inner.ask(question)

    def stream(self, question: Question[Answer]) -> Iterator[Answer]:
        """The same, one answer after the other: charged and refused at once, before the first is taken."""
        self._charge(question)
        return self.inner.stream(question)

    def tombstone(self, forget: Mapping[int, Forget]) -> None:
        """Have the clients refuse, from now on, to read these records: of each branch its own."""
        self.inner.tombstone(forget)

    def readmit(self, branch: int, forget: Forget) -> None:
        """Let the clients read these records for this branch again."""
        self.inner.readmit(branch, forget)

    def _charge(self, question: Question[Any]) -> None:
        if isinstance(question, Train) and self._noised(question):
            for block in question.blocks:
                for price, clients in self._prices(block, question.recipe).items():
                    self.setup.account.charge(block.branch, clients, block.forget, price)
        elif isinstance(question, Gradient) and self._protected(question.private):
            for block in question.blocks:
                price = self.defense.charge_once()
                self.setup.account.charge(block.branch, block.clients, block.forget, price, question.of)
        else:
            raise UnprotectedError(
                f"under defense {self.defense.kind!r} clients were asked for {question.called} in the clear: the "
                f"unlearning method must ask for clipped and noised answers, and be charged"
            )

    def _prices(self, block: Block, recipe: Recipe) -> Mapping[Charge, list[int]]:
        """What one round costs, and who pays it.

        Coins that are drawn again amplify nothing: whatever they were, each step is a Gaussian mechanism without
        sampling, and so is their mixture (the distance of mixtures is at most the mean of distances).
        """
        payers: dict[Charge, list[int]] = {}
        for client in block.clients:
            price = self.defense.charge(recipe, int(self.setup.sizes[client]))
            price = price if block.coins is None else replace(price, sample_rate=1.0)
            payers.setdefault(price, []).append(client)
        return payers

    def _noised(self, question: Train) -> bool:
        """Whether all clients of a local training add noise: who ascends does not."""
        ascending = any(block.ascent is not None for block in question.blocks)
        return self._protected(question.recipe.private) and not ascending

    def _protected(self, private: PrivateSteps | None) -> bool:
        return private is not None and private == self.setup.recipe.private
