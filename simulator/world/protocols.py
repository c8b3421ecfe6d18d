"""The protocols between the parts. Four, and no more without a reason: Federation, Unlearner, Attack, Defense.

The fourth has defaults that do nothing, and a file of its own: ``world.defense``.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from simulator.world.knowledge import PublicKnowledge
from simulator.world.records import Array, Case, DeletionRequest, Forget, Guess, Params, Release
from simulator.world.seeding import Key
from simulator.world.specs import ModelSpec, PrivateSteps, Recipe

# --- what the server asks of the clients -------------------------------------------------------------------------


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


# --- unlearning --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UnlearningCase:
    """One request to process on one branch.

    Attributes:
        branch: where its releases go.
        request: what is asked.
        forgotten: everything deleted on this branch once this request is done, earlier requests included.
        round: rounds of training that ``before`` has behind it, rounds between request and unlearning included.
        before: the model to unlearn from.
        statistics: what the server keeps of the branch (closed form only).
        perturbation: stream of the objective's perturbation that ``before`` was trained with.
    """

    branch: int
    request: DeletionRequest
    forgotten: Forget
    round: int
    before: Params
    statistics: Statistics | None = None
    perturbation: Key = PERTURBATION


@dataclass(frozen=True)
class Outcome:
    """One step of an unlearning: what is broadcast, and what the server keeps to itself.

    Attributes:
        release: what is broadcast.
        statistics: of the branch from here on (closed form only).
        taken: in their place, what left the case's statistics: they are a matrix each, and nothing may follow.
        notes: numbers that the method reports of itself, such as how often a projection fired; the last of each name
            counts.
        perturbation: stream of the objective's perturbation that the release was trained with.
    """

    release: Release
    statistics: Statistics | None = None
    notes: Mapping[str, float] = field(default_factory=dict)
    perturbation: Key = PERTURBATION
    taken: Factor | None = None


class Config(Protocol):
    """A frozen pydantic model: its fields are its hyper-parameters."""

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        """Return the hyper-parameters by name."""
        ...


class KeptUpdates(Protocol):
    """What single clients sent in training, on disk."""

    @property
    def rounds(self) -> Sequence[int]:
        """The rounds kept, ascending from 0."""
        ...

    def read(self, round: int) -> tuple[tuple[int, ...], Array]:
        """Return the clients of one round and their ``[clients, size]`` updates (memory-mapped, see ``flat``)."""
        ...


@dataclass(frozen=True)
class Drift:
    """How far one round's mean update moved because of its clients.

    Attributes:
        shares: client -> p_k, its share of the cohort's weights.
        pulls: client -> p_k ||u_k - mean||.
        step: ||mean||.
    """

    shares: Mapping[int, float]
    pulls: Mapping[int, float]
    step: float

    def because_of(self, clients: Collection[int]) -> float:
        """Bound on the distance between the mean update and the mean without some clients; for one, that distance.

        The mean without S differs by the sum over S of p_k (u_k - mean), over 1 - the sum of their p_k.
        """
        leaving = self.shares.keys() & set(clients)
        if not leaving:
            return 0.0
        if len(leaving) == len(self.shares):
            return self.step
        return sum(self.pulls[k] for k in leaving) / (1.0 - sum(self.shares[k] for k in leaving))


@dataclass(frozen=True)
class Restoration:
    """Where a chain of requests went on from an earlier release.

    Attributes:
        round: rounds behind that release.
        clients: who had to be gone from it on.
    """

    round: int
    clients: frozenset[int]


class History(Protocol):
    """What the server kept of the training: enough to train again, and no data."""

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        ...

    @property
    def sizes(self) -> Array:
        """``[clients]`` records of each client before any deletion."""
        ...

    @property
    def weights(self) -> Array:
        """``[clients]`` what each client's update counts for in a round's mean, before any deletion."""
        ...

    @property
    def public(self) -> Array | None:
        """``[n, d]`` the public sample, without labels; None where there is none."""
        ...

    @property
    def updates(self) -> KeptUpdates | None:
        """What single clients sent in training; None unless the method declares that it needs ``client updates``."""
        ...

    def released(self, round: int) -> Params:
        """The model after so many rounds of training."""
        ...

    def noise(self, purpose: str, case: UnlearningCase) -> np.random.Generator:
        """Randomness of the server's own for one case."""
        ...

    @property
    def private(self) -> PrivateSteps | None:
        """How clients have to hide single records in a gradient; None: they need not."""
        ...

    def noise_key(self, purpose: str, case: UnlearningCase) -> Key:
        """Stream of the clients' noise in what one case asks of them; equal purposes give equal noise."""
        ...

    def private_ridge(self, case: UnlearningCase, statistics: Callable[[], Statistics]) -> Params | None:
        """Ridge from what a case retains, with fresh noise; None where no defense noises solutions."""
        ...

    def calibrate(
        self,
        cases: Sequence[UnlearningCase],
        models: Sequence[Params],
        clients: Sequence[Sequence[int]],
        round: int,
        ratio: float,
    ) -> list[dict[int, Array]]:
        """Let clients train again as in one round of the first training, from other models.

        Args:
            cases: what they must not read.
            models: the start model of each case.
            clients: who trains, for each case.
            round: of the first training, whose batch orders are used.
            ratio: of the local epochs of training; at least one epoch is run.

        Returns:
            For each case client -> ``[size]`` update, in the order of ``flat``.
        """
        ...

    def leavers_update(self, cases: Sequence[UnlearningCase], models: Sequence[Params]) -> list[Array]:
        """The ordinary update of each request's clients, who must be online, on all they are about to delete.

        Returns:
            For each case the mean over its clients, weighted as in training, in the order of ``flat``.
        """
        ...

    def everyone(self, cases: Sequence[UnlearningCase]) -> list[Block]:
        """Blocks over what all clients retain, for every case: model i is case i's."""
        ...

    def slope(self, key: Key) -> Array:
        """The perturbation b of the objective, in the order of ``flat``."""
        ...

    @property
    def perturbation(self) -> float:
        """The deviation sigma of b."""
        ...

    def members(self, case: UnlearningCase, done: int) -> tuple[int, ...]:
        """The cohort that the round of recovery after ``done`` others would draw."""
        ...

    def retrain(self, cases: Sequence[UnlearningCase], coupling: str) -> Iterator[Outcome]:
        """Run the whole training again for every case without what it forgets, all cases together."""
        ...

    def rollback(self, cases: Sequence[UnlearningCase]) -> Iterator[Outcome]:
        """Train every case again from the last release that nothing it forgets had touched, in the same streams."""
        ...

    def retrain_shards(self, cases: Sequence[UnlearningCase]) -> Iterator[Outcome]:
        """Train the shards that a request touches again, each from its last clean checkpoint, and merge all shards."""
        ...

    @property
    def drifts(self) -> Sequence[Drift] | None:
        """What single clients moved in every round of training; None unless the method needs ``client drift``."""
        ...

    @property
    def restored(self) -> Sequence[Restoration]:
        """Of a chain whose method needs ``client drift``: what was restored on the way to its newest model."""
        ...

    def resume(self, cases: Sequence[UnlearningCase], restored: Sequence[Release]) -> Iterator[Outcome]:
        """Yield a release of every case, and train on from there without what it forgets, in the trunk's streams."""
        ...

    def recover(
        self, cases: Sequence[UnlearningCase], starts: Sequence[Params], rounds: int, done: int = 0
    ) -> Iterator[Outcome]:
        """Run ordinary rounds without what each case forgets; their releases are of phase ``recovery``.

        Args:
            cases: whose branches go on, all together.
            starts: the model of each.
            rounds: how many, for each.
            done: rounds of recovery behind ``starts``: equal calls would draw equal cohorts and batches.
        """
        ...


class Unlearner(Config, Protocol):
    """A frozen configuration that can act.

    ``deletes`` says whether the records are tombstoned once it is done; ``under``: at which places a private defense's
    noise may enter so that it covers all that the method reads (a method that says nothing is refused under privacy).
    An exact method may also say ``adaptive``: whether it stays exact where requests depend on earlier releases (False
    where it says nothing).

    It takes all requests that can be processed together (alternative branches), so that they share the block engine.
    Whatever it yields is broadcast and recorded, in that order within a branch.
    """

    method: str
    levels: ClassVar[frozenset[str]]
    needs: ClassVar[frozenset[str]]
    promises: ClassVar[str]
    deletes: ClassVar[bool]
    under: ClassVar[frozenset[str]]

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the releases of every case."""
        ...

    def public_rule(self) -> tuple[str, float]:
        """Return (operator, step), public knowledge of the method.

        ``("identity", step)`` after a gradient step: the difference of the models is step * gradient; else
        ``("hessian", 1.0)``.
        """
        ...


# --- the adversary -----------------------------------------------------------------------------------------------


class Attack(Config, Protocol):
    """A frozen configuration that can act; declares which knowledge it uses."""

    models: ClassVar[frozenset[str]]
    needs: ClassVar[frozenset[str]]

    @property
    def kind(self) -> str:
        """Its name in the table of attacks."""
        ...

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> Sequence[Guess]:
        """Answer every case, all at once so that it can batch; one answer a case, in order, all of one kind."""
        ...
