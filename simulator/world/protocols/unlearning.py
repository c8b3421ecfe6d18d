"""What an unlearning method is given, what it yields, and what it must be."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.config import Config
from palimpsest.simulator.world.protocols.federation import PERTURBATION, Block, Factor, Federation, Statistics
from palimpsest.simulator.world.protocols.strategy import States
from palimpsest.simulator.world.records import Array, DeletionRequest, Forget, Params, Release
from palimpsest.simulator.world.seeding import Key
from palimpsest.simulator.world.specs import Ascent, ModelSpec, PrivateSteps


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
        states: what the strategy's server keeps behind ``before``.
    """

    branch: int
    request: DeletionRequest
    forgotten: Forget
    round: int
    before: Params
    statistics: Statistics | None = None
    perturbation: Key = PERTURBATION
    states: States = ()


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
        states: what the strategy's server keeps behind the release; empty: it starts anew from there.
    """

    release: Release
    statistics: Statistics | None = None
    notes: Mapping[str, float] = field(default_factory=dict)
    perturbation: Key = PERTURBATION
    taken: Factor | None = None
    states: States = ()


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

    Example:
        >>> moved = Drift(shares={1: 0.25, 2: 0.75}, pulls={1: 0.3, 2: 0.3}, step=1.0)
        >>> round(moved.because_of([1]), 3), moved.because_of([1, 2]), moved.because_of([9])
        (0.4, 1.0, 0.0)
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


class Record(Protocol):
    """What the server kept of the training: no data of clients."""

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
    def batch_size(self) -> int:
        """Records of one minibatch of local training."""
        ...

    @property
    def private(self) -> PrivateSteps | None:
        """How clients have to hide single records in a gradient; None: they need not."""
        ...

    @property
    def perturbation(self) -> float:
        """The deviation sigma of b."""
        ...

    def slope(self, key: Key) -> Array:
        """The perturbation b of the objective, in the order of ``flat``."""
        ...

    @property
    def public(self) -> Array | None:
        """``[n, d]`` the public sample, without labels; None where there is none."""
        ...

    @property
    def updates(self) -> KeptUpdates | None:
        """What single clients sent in training; None unless the method declares that it needs ``client updates``."""
        ...

    @property
    def drifts(self) -> Sequence[Drift] | None:
        """What single clients moved in every round of training; None unless the method needs ``client drift``."""
        ...

    @property
    def restored(self) -> Sequence[Restoration]:
        """Of a chain whose method needs ``client drift``: what was restored on the way to its newest model."""
        ...

    def released(self, round: int) -> Params:
        """The model after so many rounds of training."""
        ...


class Retrainer(Protocol):
    """Trains again without what cases forget; all cases of a call run together."""

    def noise(self, purpose: str, case: UnlearningCase) -> np.random.Generator:
        """Randomness of the server's own for one case."""
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

    def members(self, case: UnlearningCase, done: int) -> tuple[int, ...]:
        """The cohort that the round of recovery after ``done`` others would draw."""
        ...

    def ascending_round(self, cases: Sequence[UnlearningCase], ascent: Ascent) -> list[Params]:
        """The model of each case after a round in which who asks ascends, and an ordinary cohort of the rest trains."""
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


class History(Protocol):
    """What an unlearning method works with."""

    @property
    def record(self) -> Record:
        """What the server kept of the training."""
        ...

    @property
    def retrainer(self) -> Retrainer:
        """Who can train again."""
        ...


class Unlearner(Config, Protocol):
    """A frozen configuration that can act; its card says what it needs and promises.

    A method whose card names no place ``under`` which it may run is refused where a defense promises privacy.

    It takes all requests that can be processed together (alternative branches), so that they share the block engine.
    Whatever it yields is broadcast and recorded, in that order within a branch.
    """

    card: ClassVar[Card]
    method: str

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the releases of every case."""
        ...

    def public_rule(self) -> tuple[str, float]:
        """Return (operator, step), public knowledge of the method.

        ``("identity", step)`` after a gradient step: the difference of the models is step * gradient;
        ``("hessian", 1.0)`` where the method ends where training would: then the difference is the inverse Hessian
        times a gradient, as far as training reaches an optimum; ``("unknown", 1.0)`` where it ends elsewhere, and an
        attack has to choose by what the difference itself shows.
        """
        ...
