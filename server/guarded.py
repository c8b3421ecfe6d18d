"""The way to clients under noise of their own: every reading is charged, and a reading in the clear is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from palimpsest.server.setup import Setup
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.protocols.defense import Defense, private_part
from palimpsest.simulator.world.protocols.federation import Block, BlockResult, Factor, Federation, Loss, Statistics
from palimpsest.simulator.world.records import Forget, Params
from palimpsest.simulator.world.specs import ModelSpec, PrivateSteps, Recipe


class UnprotectedError(RunFailure):
    """Something asked clients for what their privacy does not let them say."""


def guarded(federation: Federation, setup: Setup) -> Federation:
    """The same federation, watched where the defense has clients add the noise."""
    inner = federation.inner if isinstance(federation, GuardedFederation) else federation
    part = private_part(setup.defense)
    return inner if part is None or part.pays_at != "local training" else GuardedFederation(inner, setup, part)


@dataclass(frozen=True)
class GuardedFederation:
    """A ``Federation`` whose clients answer in private only.

    Attributes:
        inner: the clients.
        setup: whose account is charged.
        defense: what the account charges for.
    """

    inner: Federation
    setup: Setup
    defense: Defense

    def train(
        self,
        model: ModelSpec,
        models: Sequence[Params],
        blocks: Sequence[Block],
        round: int,
        recipe: Recipe,
        each: bool = False,
    ) -> list[BlockResult]:
        """Local training; single updates carry their client's noise, and are free to use."""
        if recipe.private is None or recipe.private != self.setup.recipe.private:
            self._refuse("local training")
        for block in blocks:
            for price, clients in self._prices(block, recipe).items():
                self.setup.account.charge(block.branch, clients, block.forget, price)
        return self.inner.train(model, models, blocks, round, recipe, each)

    def gradient(
        self,
        model: ModelSpec,
        models: Sequence[Params],
        blocks: Sequence[Block],
        of: str = "retained",
        loss: Loss = "training",
        private: PrivateSteps | None = None,
        step: int = 0,
    ) -> list[BlockResult]:
        """Sums of gradients with each client's noise."""
        if private is None or private != self.setup.recipe.private:
            self._refuse("a gradient")
        for block in blocks:
            self.setup.account.charge(block.branch, block.clients, block.forget, self.defense.charge_once(), of)
        return self.inner.gradient(model, models, blocks, of, loss, private, step)

    def hessian(
        self, model: ModelSpec, models: Sequence[Params], vectors: Sequence[Params], blocks: Sequence[Block]
    ) -> list[BlockResult]:
        """Refused."""
        self._refuse("a Hessian")

    def statistics(self, model: ModelSpec, blocks: Sequence[Block]) -> list[Statistics]:
        """Refused."""
        self._refuse("statistics")

    def factors(self, model: ModelSpec, blocks: Sequence[Block]) -> list[Factor]:
        """Refused."""
        self._refuse("statistics")

    def tombstone(self, forget: Mapping[int, Forget]) -> None:
        """Have the clients refuse, from now on, to read these records: of each branch its own."""
        self.inner.tombstone(forget)

    def readmit(self, branch: int, forget: Forget) -> None:
        """Let the clients read these records for this branch again."""
        self.inner.readmit(branch, forget)

    def _prices(self, block: Block, recipe: Recipe) -> Mapping[Charge, list[int]]:
        """What one round costs, and who pays it."""
        found: dict[Charge, list[int]] = {}
        for client in block.clients:
            found.setdefault(self.defense.charge(recipe, int(self.setup.sizes[client])), []).append(client)
        return found

    def _refuse(self, what: str) -> NoReturn:
        raise UnprotectedError(
            f"under defense {self.defense.kind!r} clients were asked for {what} in the clear: the unlearning method "
            f"must ask for clipped and noised answers, and be charged"
        )
