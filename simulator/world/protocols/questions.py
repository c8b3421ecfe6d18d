"""The questions that the server asks of the clients: one frozen dataclass each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from palimpsest.simulator.world.protocols.federation import Block, BlockResult, Factor, Loss, Question, Statistics
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.specs import PrivateSteps, Recipe


@dataclass(frozen=True)
class ModelQuestion(Question[BlockResult]):
    """A question about models, answered by sums that have their shape.

    Attributes:
        models: the parameters of each.
    """

    answer = BlockResult
    per_model: ClassVar[tuple[str, ...]] = ("models",)
    models: Sequence[Params]

    def bytes_up(self, model: int, answers: Sequence[BlockResult]) -> int:
        """One model."""
        return model

    def zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> list[BlockResult]:
        """Sums of nothing."""
        return [BlockResult({name: np.zeros(shape) for name, shape in shapes.items()}, 0.0) for _ in self.blocks]


@dataclass(frozen=True)
class Train(ModelQuestion):
    """Local training: for each block the sum of w_k (local model - global model) and of w_k (``weigh``).

    n_k is what client k retains; under ``recipe.private`` what it had before any deletion; 1 under ``update_clip``.

    Attributes:
        round: of the training; with the client's id it names the batch orders and the noise.
        recipe: of local training.
        each: whether the updates of single clients are wanted as well; the sums are the same bits either way.
    """

    called = "local training"
    round: int
    recipe: Recipe
    each: bool = False

    def bytes_up(self, model: int, answers: Sequence[BlockResult]) -> int:
        """One model, and a control variate where there are any."""
        return model * (2 if any(block.shift for block in self.blocks) else 1)

    def bytes_down(self, model: int) -> int:
        """One model, and the server's control variate where there is one."""
        return model * (2 if any(block.shift for block in self.blocks) else 1)

    def bytes_held(self, model: int, block: Block) -> int:
        """The sums, and the update of every client where it is wanted."""
        return super().bytes_held(model, block) + self.each * len(block.clients) * model

    def zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> list[BlockResult]:
        """No updates."""
        results = super().zeros(shapes)
        if not self.each:
            return results
        return [
            BlockResult(result.sums, 0.0, each={n: np.zeros((len(block.clients), *s)) for n, s in shapes.items()})
            for block, result in zip(self.blocks, results, strict=True)
        ]


@dataclass(frozen=True)
class Gradient(ModelQuestion):
    """Sums of per-record loss gradients (no regulariser) over each block; metric ``loss``, the sum of losses.

    Attributes:
        of: ``retained`` records (all but ``forget``), or exactly the ``forgotten`` ones; of classes these also report
            ``correct``, how many the model gets right.
        loss: the model's own, or ``unlearning``: -log(1 - p_y / 2), p the softmax of the scores.
        private: each record's gradient is clipped, each client adds noise to its sum, and there are no metrics.
        step: tells the noise of several such questions on one stream apart.
    """

    called = "a gradient"
    of: str = "retained"
    loss: Loss = "training"
    private: PrivateSteps | None = None
    step: int = 0

    def zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> list[BlockResult]:
        """No gradients, and no loss."""
        metrics = {} if self.private else {"loss": 0.0} | ({"correct": 0.0} if self._counts_correct else {})
        return [replace(result, metrics=metrics) for result in super().zeros(shapes)]

    @property
    def _counts_correct(self) -> bool:
        return self.of == "forgotten" and self.spec.task == "classification"


@dataclass(frozen=True)
class Hessian(ModelQuestion):
    """Sums over each block's retained records of the Hessian of the loss at its model, times its vector.

    Attributes:
        vectors: one a model, of its shapes.
    """

    called = "a Hessian"
    per_model = ("models", "vectors")
    vectors: Sequence[Params]


@dataclass(frozen=True)
class RidgeStatistics(Question[Statistics]):
    """Ridge statistics of each block's retained records."""

    called = "statistics"
    answer = Statistics

    def bytes_up(self, model: int, answers: Sequence[Statistics]) -> int:
        """The largest answer's."""
        return max((answer.gram.nbytes + answer.moment.nbytes for answer in answers), default=0)

    def zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> list[Statistics]:
        """Of no record."""
        outputs, features = shapes["weight"]
        width = features + 1
        return [Statistics(np.zeros((width, width)), np.zeros((width, outputs)), 0) for _ in self.blocks]


@dataclass(frozen=True)
class RidgeFactors(Question[Factor]):
    """Ridge statistics of each block's forgotten records, in factored form."""

    called = "statistics"
    answer = Factor

    def bytes_up(self, model: int, answers: Sequence[Factor]) -> int:
        """The largest answer's."""
        return max((answer.root.nbytes + answer.moment.nbytes for answer in answers), default=0)

    def zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> list[Factor]:
        """Of no record."""
        outputs, features = shapes["weight"]
        width = features + 1
        return [Factor(np.zeros((0, width)), np.zeros((width, outputs)), 0) for _ in self.blocks]
