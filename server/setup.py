"""What the server needs to know to train: no data, only sizes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import SerializeAsAny

from palimpsest.server.strategies.fedavg import FedAvg
from palimpsest.simulator.world.models.batches import weigh
from palimpsest.simulator.world.privacy.account import Account
from palimpsest.simulator.world.privacy.noise import SECRET
from palimpsest.simulator.world.protocols.defense import Defense, Memory, private_part
from palimpsest.simulator.world.protocols.federation import NOISE, PERTURBATION
from palimpsest.simulator.world.protocols.strategy import States, Strategy
from palimpsest.simulator.world.records import Array, Forget, Params
from palimpsest.simulator.world.seeding import Key
from palimpsest.simulator.world.specs import Frozen, ModelSpec, Recipe, Schedule

Algorithm = Literal["fedavg", "fedsgd", "lbfgs", "closed-form"]


class TrainingPlan(Frozen):
    """How the global model is trained.

    Attributes:
        rounds: of fedavg and fedsgd; lbfgs and closed-form count as one.
        clients_per_round: drawn without replacement, where ``sampling_rate`` is 0.
        sampling_rate: each client takes part with this probability (Poisson sampling).
        recipe: local training; fedsgd takes its learning rate, momentum and l2 for the server's step.
        gradient_norm: lbfgs stops where the Euclidean norm of the gradient of the objective (the SUM of losses and its
            regulariser) is at most this.
        max_evaluations: lbfgs gives up, loudly, after so many gradients.
        schedule: fedavg only: of the clients' learning rate over the rounds, see ``rate``.
        decay: of the exponential schedule.
        strategy: fedavg only: what clients add to their step, and what the server makes of their updates.
        shards: fedavg and fedsgd only: models trained apart, each by a part of the clients (see ``server.sharding``).
        perturbation: sigma of the objective's perturbation b^T theta, b ~ N(0, sigma^2); lbfgs and closed-form only.
    """

    algorithm: Algorithm
    rounds: int = 1
    clients_per_round: int = 0
    sampling_rate: float = 0.0
    recipe: Recipe = Recipe()
    schedule: Schedule = "constant"
    decay: float = 1.0
    strategy: SerializeAsAny[Strategy] = FedAvg()
    shards: int = 1
    gradient_norm: float = 1e-6
    max_evaluations: int = 2000
    perturbation: float = 0.0

    def rate(self, round: int) -> float:
        """The factor of the learning rate in a round, counted from 0; after the last round it stays as it was there."""
        return _SCHEDULES[self.schedule](min(round, self.rounds - 1), self)


def _cosine(round: int, plan: TrainingPlan) -> float:
    """From 1 down to nearly 0 along half a wave."""
    return 0.5 * (1.0 + math.cos(math.pi * round / plan.rounds))


_SCHEDULES: Mapping[Schedule, Callable[[int, TrainingPlan], float]] = {
    "constant": lambda round, plan: 1.0,
    "cosine": _cosine,
    "exponential": lambda round, plan: float(plan.decay**round),
}


@dataclass(frozen=True)
class Setup:
    """A training of one model on one population.

    Attributes:
        spec: the model.
        plan: how it is trained.
        sizes: ``[clients]`` records of each client before any deletion.
        block_size: clients in a block at most.
        seed: the scenario's seed.
        sites: places that hold their own clients' records, so that no block has clients of two; 0: any host serves any.
        keep_updates: whether fedavg hands on the updates of single clients too.
        keep_working: whether models that are broadcast without being releases (L-BFGS iterates) are handed on too.
        defense: under which it is trained, unlearned and recovered.
        account: where what defenses with differential privacy spend is written down.
        secure_noise: noise comes from the operating system; the run can't be repeated.
        sampling_is_secret: whether nobody but the server knows who takes part in a round.
        start: the model that every training begins with; None: drawn.
        memories: of the trunk, what the defense remembered after 0, 1, ... rounds.
    """

    spec: ModelSpec
    plan: TrainingPlan
    sizes: Array
    block_size: int = 32
    seed: int = field(default=0, repr=False)
    sites: int = 0
    keep_working: bool = False
    keep_updates: bool = False
    defense: Defense = field(default_factory=Defense)
    account: Account = field(default_factory=lambda: Account(None, np.zeros(0)))
    secure_noise: bool = False
    sampling_is_secret: bool = False
    start: Params | None = None
    memories: tuple[Memory, ...] = ()

    @cached_property
    def empty(self) -> Array:
        """Ascending ids of the clients without a record."""
        return np.flatnonzero(self.sizes <= 0)

    @property
    def weights(self) -> Array:
        """``[clients]`` what each client's update counts for in a round's mean, before any deletion."""
        return weigh(self.sizes, self.plan.recipe)

    @property
    def rounds(self) -> int:
        """Rounds of a whole training: 1 where the optimum is solved for."""
        return self.plan.rounds if self.plan.algorithm in ("fedavg", "fedsgd") else 1

    @property
    def recipe(self) -> Recipe:
        """Local training, as the strategy and the defense have it."""
        return self.defense.local_training(self.plan.strategy.local_training(self.plan.recipe))

    def recipe_of(self, round: int) -> Recipe:
        """Local training in one round, whose learning rate the schedule sets."""
        recipe, factor = self.recipe, self.plan.rate(round)
        return recipe if factor == 1.0 else recipe.model_copy(update={"learning_rate": factor * recipe.learning_rate})

    @property
    def private(self) -> bool:
        """Whether the defense promises differential privacy: sizes and cohorts then take no notice of deletions."""
        return private_part(self.defense) is not None

    @property
    def amplified(self) -> bool:
        """Whether nobody but the server knows who took part, so that sampling amplifies a client's privacy."""
        return self.sampling_is_secret and self.plan.sampling_rate > 0.0

    def noise(self, key: Key) -> Key:
        """A stream of noise, or the operating system's in its place."""
        return SECRET if self.secure_noise else key

    def remembered(self, round: int) -> Memory:
        """What the defense remembered in the trunk after so many rounds: training on from there starts with it."""
        return self.memories[min(round, len(self.memories) - 1)] if round and self.memories else {}


@dataclass(frozen=True)
class Lineage:
    """One model in training: what it must not read, and where its randomness comes from.

    Attributes:
        branch: whose tombstones bind, and where its releases go.
        forget: records left out from the start.
        init, cohorts, batches, perturbation: purpose and instance of the streams.
        noise: the same for the noise of privacy: of its own for whatever is broadcast, however batches are coupled.
        coins: the same for the coins of Poisson sampling; None: they come with the noise.
        compact: whether batches are drawn over what is left (see ``Block``).
        cohorts_of_rest: whether cohorts are drawn among clients with records left; False keeps the original draw, in
            which a client without records takes part with weight 0.
        first: rounds that its start model has behind it.
        last: the round it stops at; ``None``: the plan's.
        shard: the shard whose clients take part; ``None``: all clients do.
        states: of the strategy's server after ``first`` rounds, one a shard; empty: it starts anew.
    """

    branch: int
    forget: Forget
    init: Key = ("init",)
    cohorts: Key = ("cohorts",)
    batches: Key = ("batches",)
    perturbation: Key = PERTURBATION
    noise: Key = NOISE
    coins: Key | None = None
    compact: bool = False
    cohorts_of_rest: bool = False
    first: int = 0
    last: int | None = None
    shard: int | None = None
    states: States = ()
