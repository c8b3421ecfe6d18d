"""What the server asks of the clients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from palimpsest.simulator.world.records import Array, Forget, Params
from palimpsest.simulator.world.seeding import Key
from palimpsest.simulator.world.specs import ModelSpec, PrivateSteps, Recipe

Loss = Literal["training", "unlearning"]


PERTURBATION: Key = ("perturbation",)
"""Stream of the perturbation of the first training's objective."""


@dataclass(frozen=True)
class Block:
    """At most ``block_size`` clients of one branch: the unit of speed, determinism and recovery.

    Attributes:
        model: index into the models sent with the round.
        branch: whose tombstones bind.
        clients: ids, in the order in which results are added up.
        forget: records left out, by client.
        batches: purpose and instance of the batch orders; the client's id and the round are appended.
        compact: False: batches are cut from the original order and forgotten slots stay empty (``same-order``);
            True: a fresh permutation of what is left.
        noise: stream of the noise, and of the coins of Poisson sampling, of what is private; client and round are
            appended.
        update_clip: bound on the length of each client's update, where all clients weigh the same; 0: none.
    """

    model: int
    branch: int
    clients: tuple[int, ...]
    forget: Forget
    batches: Key = ("batches",)
    compact: bool = False
    noise: Key = ("noise",)
    update_clip: float = 0.0


@dataclass(frozen=True)
class BlockResult:
    """What a host returns for one block.

    Attributes:
        sums: float64 sums over the block's clients (of weighted updates, of gradients, of statistics).
        weight: the total weight, in records (of ``train`` with local steps or clipped updates, in clients).
        metrics: sums of scalars, such as ``loss``.
        each: name -> ``[clients of the block, ...]`` the unweighted update of every client, where asked for.
    """

    sums: Params
    weight: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    each: Params = field(default_factory=dict)


@dataclass(frozen=True)
class Statistics:
    """Sufficient statistics of ridge: gram ``[d+1, d+1]`` X~^T X~ and moment ``[d+1, Q]`` X~^T Y, float64."""

    gram: Array
    moment: Array
    count: int

    def plus(self, other: "Statistics") -> "Statistics":
        """Of these records and others."""
        return Statistics(self.gram + other.gram, self.moment + other.moment, self.count + other.count)

    def less(self, factor: "Factor") -> "Statistics":
        """Of the same records without those of ``factor``."""
        return Statistics(
            gram=self.gram - factor.root.T @ factor.root,
            moment=self.moment - factor.moment,
            count=self.count - factor.count,
        )


@dataclass(frozen=True)
class Factor:
    """The same of few records in factored form: root ``[r, d+1]`` with root^T root = X~^T X~, r = min(k, d+1)."""

    root: Array
    moment: Array
    count: int


class Federation(Protocol):
    """What the server's loop and every unlearner talk to; on Flower and Ray, or serial in-process.

    Results come back in the order of the blocks, whatever order the hosts answered in, and are the same bits for any
    number of hosts.
    """

    def train(
        self,
        model: ModelSpec,
        models: Sequence[Params],
        blocks: Sequence[Block],
        round: int,
        recipe: Recipe,
        each: bool = False,
    ) -> list[BlockResult]:
        """Local training: for each block the sum of w_k (local model - global model) and of w_k (``weigh``).

        n_k is what client k retains; under ``recipe.private`` what it had before any deletion; 1 under ``update_clip``.

        Args:
            each: whether the updates of single clients are wanted as well; the sums are the same bits either way.
        """
        ...

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
        """Sums of per-record loss gradients (no regulariser) over each block; metric ``loss``, the sum of losses.

        Args:
            of: ``retained`` records (all but ``forget``), or exactly the ``forgotten`` ones; of classes these also
                report ``correct``, how many the model gets right.
            loss: the model's own, or ``unlearning``: -log(1 - p_y / 2), p the softmax of the scores.
            private: each record's gradient is clipped, each client adds noise to its sum, and there are no metrics.
            step: tells the noise of several such questions on one stream apart.
        """
        ...

    def hessian(
        self, model: ModelSpec, models: Sequence[Params], vectors: Sequence[Params], blocks: Sequence[Block]
    ) -> list[BlockResult]:
        """Sums over each block's retained records of the Hessian of the loss at its model, times its vector."""
        ...

    def statistics(self, model: ModelSpec, blocks: Sequence[Block]) -> list[Statistics]:
        """Ridge statistics of each block's retained records."""
        ...

    def factors(self, model: ModelSpec, blocks: Sequence[Block]) -> list[Factor]:
        """Ridge statistics of each block's forgotten records, in factored form."""
        ...

    def tombstone(self, forget: Mapping[int, Forget]) -> None:
        """Have the clients refuse, from now on, to read these records: of each branch its own."""
        ...

    def readmit(self, branch: int, forget: Forget) -> None:
        """Have the clients read these records for this branch again, after a new consent."""
        ...
