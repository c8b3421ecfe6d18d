"""What the server keeps of a training."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from palimpsest.server.algorithms.perturbation import drawn
from palimpsest.server.algorithms.step import Step, states_of
from palimpsest.server.blocks import drift
from palimpsest.server.setup import Setup
from palimpsest.server.shard_store import ShardStore
from palimpsest.server.updates import UpdateStore
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.federation import Statistics
from palimpsest.simulator.world.protocols.strategy import States
from palimpsest.simulator.world.protocols.unlearning import Drift, Restoration
from palimpsest.simulator.world.records import Array, Params, Release
from palimpsest.simulator.world.seeding import Key
from palimpsest.simulator.world.specs import ModelSpec, PrivateSteps


@dataclass
class Record:
    """Data that the server keeps of one training; nothing in it can act.

    Attributes:
        setup: how the model was trained.
        releases: in order.
        statistics: sums over the records (closed form only).
        updates: of single clients, where some method needs them.
        public: ``[n, d]`` the public sample, without labels.
        drifts: how far single clients moved the model in every round; None where no method asks.
        shards: the models of the training's shards after 0, 1, ... rounds, where some method needs them.
        states: what the strategy's server kept behind the model after 0, 1, ... rounds.
        restored: where a chain of requests went back to an earlier release; empty for a first training.
    """

    setup: Setup
    releases: list[Release] = field(default_factory=list)
    statistics: Statistics | None = None
    updates: UpdateStore | None = None
    public: Array | None = None
    drifts: list[Drift] | None = None
    shards: ShardStore | None = None
    states: list[States] = field(default_factory=list)
    restored: list[Restoration] = field(default_factory=list)

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return self.setup.spec

    @property
    def sizes(self) -> Array:
        """``[clients]`` records of each client before any deletion."""
        return self.setup.sizes

    @property
    def weights(self) -> Array:
        """``[clients]`` what each client's update counts for in a round's mean, before any deletion."""
        return self.setup.weights

    @property
    def batch_size(self) -> int:
        """Records of one minibatch of local training."""
        return self.setup.recipe.batch_size

    @property
    def private(self) -> PrivateSteps | None:
        """How clients have to hide single records in a gradient; None: they need not."""
        return self.setup.recipe.private

    @property
    def perturbation(self) -> float:
        """The deviation sigma of the objective's perturbation b."""
        return self.setup.plan.perturbation

    def slope(self, key: Key) -> Array:
        """The perturbation b of the objective, in the order of ``flat``."""
        return flat(drawn(self.setup, key))

    def after(self, round: int) -> int:
        """Position in ``releases`` of the release after so many rounds."""
        return max(i for i, kept in enumerate(self.releases) if kept.round == round and kept.phase == "training")

    def released(self, round: int) -> Params:
        """The model after so many rounds."""
        return self.releases[self.after(round)].params

    def states_after(self, round: int) -> States:
        """What the strategy's server kept behind the model after so many rounds; empty where it kept nothing."""
        return self.states[round] if round < len(self.states) else ()

    def shard_models(self, round: int) -> list[Params]:
        """The models of the shards after so many rounds.

        Raises:
            ValueError: they were not kept.
        """
        if self.shards is None:
            raise ValueError("this method needs the models of single shards, and this record has none")
        return self.shards.models(round, like=self.releases[0].params)

    def stored_for(self, needs: Collection[str]) -> int:
        """Bytes that the server keeps on disk or in memory for a method with these needs."""
        total = 0 if self.statistics is None else self.statistics.gram.nbytes + self.statistics.moment.nbytes
        if "releases" in needs:
            total += sum(value.nbytes for kept in self.releases for value in kept.params.values())
        if "client updates" in needs and self.updates is not None:
            total += self.updates.bytes
        if "shard checkpoints" in needs and self.shards is not None:
            total += self.shards.bytes
        if "client drift" in needs and self.drifts is not None:
            total += sum(8 * (2 * len(of_round.shares) + 1) for of_round in self.drifts)
        return total

    def with_own_account(self) -> "Record":
        """The same record, with an account of privacy that goes on by itself."""
        return replace(self, setup=replace(self.setup, account=self.setup.account.copy()))

    def append(self, step: Step) -> Release:
        """Keep what a step of the first training left, and return its release."""
        if self.updates is not None and step.updates:
            self.updates.keep(step.updates[0])
        if self.drifts is not None and step.updates:
            self.drifts.append(drift(step.updates[0], self.weights))
        if self.shards is not None and step.shards:
            self.shards.append(step.shards[0])
        self.releases.append(Release(0, step.round, step.phase, step.models[0]))
        if step.phase == "training":
            self.setup.account.mark(step.round)
            self.states.append(states_of(step, 0))
        self.statistics = step.statistics[0] if step.statistics else self.statistics
        return self.releases[-1]
