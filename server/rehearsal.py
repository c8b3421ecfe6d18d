"""What something will spend, before it is done: the server does it with clients that say nothing.

Under privacy who takes part, and how often, is a function of sizes and seed alone, so a rehearsal charges an account
exactly what the performance will.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from palimpsest.server.history import History
from palimpsest.server.setup import Setup
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.privacy.account import Account
from palimpsest.simulator.world.protocols.federation import Block, BlockResult, Factor, Loss, Statistics
from palimpsest.simulator.world.protocols.unlearning import Unlearner, UnlearningCase
from palimpsest.simulator.world.records import Forget, Params
from palimpsest.simulator.world.specs import ModelSpec, PrivateSteps, Recipe


class SilentClients:
    """A ``Federation`` whose clients answer zeros, without being asked."""

    def train(
        self,
        model: ModelSpec,
        models: Sequence[Params],
        blocks: Sequence[Block],
        round: int,
        recipe: Recipe,
        each: bool = False,
    ) -> list[BlockResult]:
        """No updates."""
        return [self._nothing(model, len(block.clients) if each else 0) for block in blocks]

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
        """No gradients."""
        return [self._nothing(model) for _ in blocks]

    def hessian(
        self, model: ModelSpec, models: Sequence[Params], vectors: Sequence[Params], blocks: Sequence[Block]
    ) -> list[BlockResult]:
        """No products."""
        return [self._nothing(model) for _ in blocks]

    def statistics(self, model: ModelSpec, blocks: Sequence[Block]) -> list[Statistics]:
        """No records."""
        width, outputs = self._width(model)
        return [Statistics(np.zeros((width, width)), np.zeros((width, outputs)), 0) for _ in blocks]

    def factors(self, model: ModelSpec, blocks: Sequence[Block]) -> list[Factor]:
        """No records."""
        width, outputs = self._width(model)
        return [Factor(np.zeros((0, width)), np.zeros((width, outputs)), 0) for _ in blocks]

    def tombstone(self, forget: Mapping[int, Forget]) -> None:
        """Nothing is deleted."""

    def readmit(self, branch: int, forget: Forget) -> None:
        """Nothing was deleted."""

    def _nothing(self, spec: ModelSpec, clients: int = 0) -> BlockResult:
        shapes = model_of(spec).shapes
        each = {name: np.zeros((clients, *shape)) for name, shape in shapes.items()} if clients else {}
        return BlockResult({name: np.zeros(shape) for name, shape in shapes.items()}, 0.0, each=each)

    def _width(self, spec: ModelSpec) -> tuple[int, int]:
        outputs, features = model_of(spec).shapes["weight"]
        return features + 1, outputs


def training_account(setup: Setup) -> Account:
    """The account of a training, without training."""
    history = History(replace(setup, account=Account(setup.account.unit, setup.sizes)), SilentClients())
    for _ in history.run():
        pass
    return history.setup.account


def unlearning_account(history: History, unlearner: Unlearner, cases: Sequence[UnlearningCase]) -> Account:
    """The account as it would stand after some cases, without processing them."""
    rehearsed = history.under(SilentClients())
    for _ in unlearner.unlearn(rehearsed, cases, rehearsed.federation):
        pass
    return rehearsed.setup.account
