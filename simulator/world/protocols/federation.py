"""What the server asks of the clients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

from palimpsest.simulator.world.records import Array, Forget, Params
from palimpsest.simulator.world.seeding import Key
from palimpsest.simulator.world.specs import Ascent, ModelSpec

Loss = Literal["training", "unlearning"]


PERTURBATION: Key = ("perturbation",)
"""Stream of the perturbation of the first training's objective."""

NOISE: Key = ("noise",)
"""Stream of the first training's noise, and of its coins of Poisson sampling, of what is private."""


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
        coins: stream of these coins, where it is another one: that of a training whose coins are drawn again.
        update_clip: bound on the length of each client's update, where all clients weigh the same; 0: none.
        shift: name -> ``[clients of the block, ...]`` what each client adds to its gradients; empty: nothing.
        ascent: how these clients unlearn exactly what ``forget`` names, in place of training; they weigh as before the
            deletion. None: they train.
    """

    model: int
    branch: int
    clients: tuple[int, ...]
    forget: Forget
    batches: Key = ("batches",)
    compact: bool = False
    noise: Key = NOISE
    coins: Key | None = None
    update_clip: float = 0.0
    shift: Params = field(default_factory=dict)
    ascent: Ascent | None = None


@dataclass(frozen=True)
class BlockResult:
    """What a host returns for one block.

    Attributes:
        sums: float64 sums over the block's clients (of weighted updates, of gradients, of statistics).
        weight: the total weight, in records (of ``train`` with local steps or clipped updates, in clients).
        metrics: sums of scalars, such as ``loss``.
        each: name -> ``[clients of the block, ...]`` the unweighted update of every client, where asked for.
        controls: name -> ``[clients of the block, ...]`` every client's mean gradient over its steps, less its shift,
            where the block has one.
    """

    sums: Params
    weight: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    each: Params = field(default_factory=dict)
    controls: Params = field(default_factory=dict)


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


Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Question(Generic[Answer]):
    """What the server asks about blocks of clients; every kind of question is a frozen dataclass of its own.

    A new one also needs a handler in ``clients/host.py``. Its fields travel by their annotations: see
    ``simulator/federation/packing.py`` for the types that can.

    Attributes:
        called: what is asked for, with its article.
        answer: type of the answer to one block.
        per_model: the fields with one set of parameters a model; ``Block.model`` is an index into them.
        spec: the architecture.
        blocks: whom it is about; answers come in their order.
    """

    called: ClassVar[str]
    answer: ClassVar[type[Any]]
    per_model: ClassVar[tuple[str, ...]] = ()
    spec: ModelSpec
    blocks: Sequence[Block]

    def about(self, positions: Sequence[int]) -> Self:
        """Return the same question about some of the blocks, with the models that these need and no others."""
        blocks = [self.blocks[i] for i in positions]
        if not self.per_model:
            return replace(self, blocks=blocks)
        used = sorted({block.model for block in blocks})
        new = {model: i for i, model in enumerate(used)}
        models: dict[str, Any] = {name: [getattr(self, name)[model] for model in used] for name in self.per_model}
        return replace(self, blocks=[replace(block, model=new[block.model]) for block in blocks], **models)

    def bytes_up(self, model: int, answers: Sequence[Answer]) -> int:
        """Return how many bytes one client would send, were it asked alone.

        Args:
            model: bytes of one model.
            answers: what came back.
        """
        raise NotImplementedError

    def bytes_held(self, model: int, block: Block) -> int:
        """Return about how many bytes of memory the answer to a block takes: sums like a model's, in float64.

        Args:
            model: bytes of one model.
            block: one of the question's.
        """
        return 2 * model

    def bytes_down(self, model: int) -> int:
        """Return how many bytes one client would receive: one set of parameters for each field that has them."""
        return len(self.per_model) * model

    def zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> list[Answer]:
        """Return what clients without any record answer.

        Args:
            shapes: of the model's parameters, by name.
        """
        raise NotImplementedError


class Federation(Protocol):
    """What the server's loop and every unlearner talk to; on Flower and Ray, or serial in-process."""

    def ask(self, question: Question[Answer]) -> list[Answer]:
        """Return one answer a block, in the order of the blocks.

        They are the same bits for any number of hosts, whatever order these answered in.
        """
        ...

    def stream(self, question: Question[Answer]) -> Iterator[Answer]:
        """Yield the answers of ``ask`` one by one, for whoever adds them up: memory then holds a few of them.

        All of them are to be taken: what was asked is counted at the end.
        """
        ...

    def tombstone(self, forget: Mapping[int, Forget]) -> None:
        """Have the clients refuse, from now on, to read these records: of each branch its own."""
        ...

    def readmit(self, branch: int, forget: Forget) -> None:
        """Have the clients read these records for this branch again, after a new consent."""
        ...
