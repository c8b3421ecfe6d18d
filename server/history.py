"""What the server keeps of a training, and how it trains again."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from palimpsest.server.aggregation import solved_ridge
from palimpsest.server.algorithms.perturbation import drawn
from palimpsest.server.algorithms.step import Step, states_of
from palimpsest.server.ascending import ascending_round
from palimpsest.server.blocks import cohort, drift, everyone, local_updates, weighted_mean
from palimpsest.server.guarded import guarded
from palimpsest.server.participation import first_use
from palimpsest.server.setup import Lineage, Setup
from palimpsest.server.sharding import by_shard, merged
from palimpsest.server.training import train
from palimpsest.server.updates import UpdateStore
from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.protocols.defense import Memory, private_part
from palimpsest.simulator.world.protocols.federation import PERTURBATION, Block, Federation, Statistics
from palimpsest.simulator.world.protocols.strategy import States
from palimpsest.simulator.world.protocols.unlearning import Drift, Outcome, Restoration, UnlearningCase
from palimpsest.simulator.world.records import Array, Forget, Params, Release
from palimpsest.simulator.world.seeding import Key, generator
from palimpsest.simulator.world.specs import Ascent, ModelSpec, PrivateSteps


@dataclass
class History:
    """What is kept of one training run.

    Attributes:
        setup: how it was trained.
        federation: who can train again.
        stream: purpose of the randomness of retrainings; arms share it, a hidden reference has its own.
        releases: of the trunk, in order.
        statistics: of the trunk (closed form only).
        updates: of single clients in the trunk, where some method needs them.
        public: ``[n, d]`` the public sample, without labels.
        drifts: what single clients moved in every round of the trunk; None where nobody asks.
        checkpoints: the models of the trunk's shards after 0, 1, ... rounds, where some method needs them.
        states: what the strategy's server kept behind the trunk's model after 0, 1, ... rounds.
        restored: see ``server.chain``; nothing is in a trunk.
    """

    setup: Setup
    federation: Federation
    stream: str = "unlearning"
    releases: list[Release] = field(default_factory=list)
    statistics: Statistics | None = None
    updates: UpdateStore | None = None
    public: Array | None = None
    drifts: list[Drift] | None = None
    checkpoints: UpdateStore | None = None
    states: list[States] = field(default_factory=list)
    restored: list[Restoration] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Watch the way to the clients where the defense asks for it."""
        self.federation = guarded(self.federation, self.setup)

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

    def stored_for(self, needs: Collection[str]) -> int:
        """Bytes that the server keeps on disk or in memory for a method with these needs."""
        total = 0 if self.statistics is None else self.statistics.gram.nbytes + self.statistics.moment.nbytes
        if "releases" in needs:
            total += sum(value.nbytes for kept in self.releases for value in kept.params.values())
        if "client updates" in needs and self.updates is not None:
            total += self.updates.bytes
        if "shard checkpoints" in needs and self.checkpoints is not None:
            total += self.checkpoints.bytes
        if "client drift" in needs and self.drifts is not None:
            total += sum(8 * (2 * len(of_round.shares) + 1) for of_round in self.drifts)
        return total

    def under(self, federation: Federation) -> "History":
        """The same history, with clients that know other tombstones, and an account that goes on by itself."""
        return replace(self, federation=federation, setup=replace(self.setup, account=self.setup.account.copy()))

    def run(self) -> Iterator[Release]:
        """Train the trunk, keeping what it releases."""
        single = self.updates is not None or self.drifts is not None
        setup, memories = replace(self.setup, keep_updates=single), list[Memory]()
        for step in train(setup, [Lineage(branch=0, forget={})], self.federation):
            if self.updates is not None and step.updates:
                self.updates.keep(step.updates[0])
            if self.drifts is not None and step.updates:
                self.drifts.append(drift(step.updates[0], self.weights))
            if self.checkpoints is not None and step.shards:
                self.checkpoints.keep({shard: flat(model) for shard, model in enumerate(step.shards[0])})
            release = Release(0, step.round, step.phase, step.models[0])
            self.releases.append(release)
            if step.phase == "training":
                self.setup.account.mark(step.round)
                memories.append(step.memories[0] if step.memories else {})
                self.states.append(states_of(step, 0))
            self.statistics = step.statistics[0] if step.statistics else self.statistics
            yield release
        self.setup = replace(self.setup, memories=tuple(memories))
        self.federation = guarded(self.federation, self.setup)

    def after(self, round: int) -> int:
        """Position in ``releases`` of the trunk's release after so many rounds."""
        return max(i for i, kept in enumerate(self.releases) if kept.round == round and kept.phase == "training")

    def released(self, round: int) -> Params:
        """The trunk's model after so many rounds."""
        return self.releases[self.after(round)].params

    def states_after(self, round: int) -> States:
        """What the strategy's server kept behind the model after so many rounds; empty where it kept nothing."""
        return self.states[round] if round < len(self.states) else ()

    def noise(self, purpose: str, case: UnlearningCase) -> np.random.Generator:
        """Randomness of the server's own for one case."""
        return generator(self.setup.seed, f"{self.stream}-{purpose}", case.request.index)

    @property
    def private(self) -> PrivateSteps | None:
        """How clients have to hide single records in a gradient; None: they need not."""
        return self.setup.recipe.private

    def noise_key(self, purpose: str, case: UnlearningCase) -> Key:
        """Stream of the clients' noise in what one case asks of them."""
        return self.setup.noise((f"{self.stream}-{purpose}-noise", case.request.index))

    def private_ridge(self, case: UnlearningCase, statistics: Callable[[], Statistics]) -> Params | None:
        """Ridge from what a case retains, with fresh noise; None where no defense noises solutions."""
        if (part := private_part(self.setup.defense)) is None or part.card.pays_at != "aggregation":
            return None
        return solved_ridge(self.setup, case.branch, case.forgotten, self.noise_key("solution", case), statistics())

    def calibrate(
        self,
        cases: Sequence[UnlearningCase],
        models: Sequence[Params],
        clients: Sequence[Sequence[int]],
        round: int,
        ratio: float,
    ) -> list[dict[int, Array]]:
        """Let clients train again as in one round of the first training, from other models."""
        recipe = self.setup.recipe
        length = "local_steps" if recipe.local_steps else "local_epochs"
        shorter = recipe.model_copy(update={length: max(1, math.floor(ratio * getattr(recipe, length) + 0.5))})
        lineages = [
            Lineage(branch=case.branch, forget=case.forgotten, noise=self.noise_key("calibration", case))
            for case in cases
        ]
        return local_updates(self.setup, self.federation, lineages, models, clients, round, shorter)

    def leavers_update(self, cases: Sequence[UnlearningCase], models: Sequence[Params]) -> list[Array]:
        """The ordinary update of each request's clients on all they are about to delete, weighted as in training."""
        lineages = [
            Lineage(
                case.branch,
                {},
                batches=(f"{self.stream}-leaver", case.request.index),
                noise=self.noise_key("leaver", case),
            )
            for case in cases
        ]
        leavers = [list(case.request.forget) for case in cases]
        found = local_updates(self.setup, self.federation, lineages, models, leavers, 0, self.setup.recipe)
        return [weighted_mean(updates.items(), self.weights) for updates in found]

    def ascending_round(self, cases: Sequence[UnlearningCase], ascent: Ascent) -> list[Params]:
        """The model of each case after a round in which who asks ascends, and an ordinary cohort of the rest trains."""
        lineages = [self._recovering(case, 0, 1) for case in cases]
        return ascending_round(self.setup, self.federation, cases, lineages, ascent)

    def retrain(self, cases: Sequence[UnlearningCase], coupling: str) -> Iterator[Outcome]:
        """Run the whole training again for every case without what it forgets, all cases together."""
        lineages = [self._lineage(case, coupling) for case in cases]
        for step in train(self.setup, lineages, self.federation):
            self.passed(step, lineages[0].forget)
            for position, i in enumerate(step.lineages):
                phase = "unlearning" if step.phase == "training" else step.phase
                kept = step.statistics[position] if step.statistics else None
                release = Release(cases[i].branch, step.round, phase, step.models[position])
                behind = states_of(step, position)
                yield Outcome(release, kept, perturbation=lineages[i].perturbation, states=behind)

    def rollback(self, cases: Sequence[UnlearningCase]) -> Iterator[Outcome]:
        """Train every case again from the last release that nothing it forgets had touched, in the same streams.

        Where none of it was ever used, the model stays as it is, and nothing is asked of anybody.
        """
        used, restored = [], []
        for case in cases:
            if first_use(self.setup, case.request.forget, case.round) == case.round:
                yield Outcome(Release(case.branch, case.round, "unlearning", case.before), states=case.states)
                continue
            clean = min(first_use(self.setup, case.forgotten, case.round), case.request.round)
            used.append(case)
            restored.append(Release(case.branch, clean, "unlearning", self.released(clean)))
        yield from self.resume(used, restored)

    def retrain_shards(self, cases: Sequence[UnlearningCase]) -> Iterator[Outcome]:
        """Train the shards that a request touches again, each from its last clean checkpoint, and merge all shards."""
        models = [self.shard_models(case.round) for case in cases]
        states = [list(self.states_after(case.round)) for case in cases]
        parts = [(i, part) for i, case in enumerate(cases) for part in self._touched(case)]
        lineages = [part for _, part in parts]
        starts = [self.shard_models(part.first)[part.shard or 0] for part in lineages]
        for step in train(self.setup, lineages, self.federation, starts=starts) if lineages else ():
            for at, (position, model) in enumerate(zip(step.lineages, step.models, strict=True)):
                i, part = parts[position]
                shard, behind = part.shard or 0, states_of(step, at)
                models[i][shard] = model
                states[i][shard : shard + 1] = behind
                self.rewritten(shard, step.round, model, behind)
                if self.setup.keep_working:
                    yield Outcome(Release(part.branch, step.round, "working", model))
        for case, own, kept in zip(cases, models, states, strict=True):
            yield Outcome(Release(case.branch, case.round, "unlearning", merged(own)), states=tuple(kept))

    def _touched(self, case: UnlearningCase) -> Iterator[Lineage]:
        """The shards whose models read any of what a request deletes, each from before the first that it forgets."""
        for shard, forget in by_shard(self.setup, case.request.forget).items():
            clean = first_use(self.setup, forget, case.round, shard)
            if clean < case.round:
                states = self.states_after(clean)[shard : shard + 1]
                yield replace(self._lineage(case, "same-order"), shard=shard, first=clean, states=states)

    def shard_models(self, round: int) -> list[Params]:
        """The models of the trunk's shards after so many rounds."""
        if self.checkpoints is None:
            raise ValueError("this method needs the models of single shards, and this history has none")
        _, rows = self.checkpoints.read(round)
        return [unflat(row, self.releases[0].params) for row in rows]

    def resume(self, cases: Sequence[UnlearningCase], restored: Sequence[Release]) -> Iterator[Outcome]:
        """Yield a release of every case, and train on from there without what it forgets, in the trunk's streams."""
        for case, release in zip(cases, restored, strict=True):
            yield Outcome(release, states=self.states_after(release.round))
            self.restore(case, release)
        lineages = []
        for case, release in zip(cases, restored, strict=True):
            lineage, noise = self._lineage(case, "same-order"), self.noise_key("resumption", case)
            states = self.states_after(release.round)
            lineages.append(replace(lineage, first=release.round, noise=noise, states=states))
        if not lineages:
            return
        for step in train(self.setup, lineages, self.federation, starts=[release.params for release in restored]):
            self.passed(step, lineages[0].forget)
            for position, i in enumerate(step.lineages):
                resumed = Release(lineages[i].branch, step.round, "unlearning", step.models[position])
                yield Outcome(resumed, states=states_of(step, position))

    def restore(self, case: UnlearningCase, release: Release) -> None:
        """Hear that a case goes on from an earlier release; a trunk is what it is, a chain follows."""

    def passed(self, step: Step, gone: Forget) -> None:
        """Hear of a round that came after, of the one case that a chain has."""

    def rewritten(self, shard: int, round: int, model: Params, states: States) -> None:
        """Hear of a shard's new model after so many rounds, and of what the strategy's server keeps behind it."""

    def newest_shards(self) -> list[Params]:
        """The shards' models behind a chain's newest release; nothing goes on from a trunk's."""
        return []

    def recover(
        self, cases: Sequence[UnlearningCase], starts: Sequence[Params], rounds: int, done: int = 0
    ) -> Iterator[Outcome]:
        """Run ordinary rounds without what each case forgets, on streams that all methods share."""
        if not cases or rounds == 0:
            return
        lineages = [self._recovering(case, done, rounds) for case in cases]
        for step in train(self.setup, lineages, self.federation, starts=starts):
            for position, i in enumerate(step.lineages):
                recovered = Release(lineages[i].branch, step.round, "recovery", step.models[position])
                yield Outcome(recovered, states=states_of(step, position))

    def everyone(self, cases: Sequence[UnlearningCase]) -> list[Block]:
        """Blocks over what all clients retain, for every case: model i is case i's."""
        return everyone(self.setup, [Lineage(branch=case.branch, forget=case.forgotten) for case in cases])

    def slope(self, key: Key) -> Array:
        """The perturbation b of the objective, in the order of ``flat``."""
        return flat(drawn(self.setup, key))

    @property
    def perturbation(self) -> float:
        """The deviation sigma of b."""
        return self.setup.plan.perturbation

    def members(self, case: UnlearningCase, done: int) -> tuple[int, ...]:
        """The cohort that the round of recovery after ``done`` others would draw."""
        return cohort(self.setup, self._recovering(case, done, 1), case.round + done)

    def _recovering(self, case: UnlearningCase, done: int, rounds: int) -> Lineage:
        """Rounds among those who have records left, in streams of their own."""
        return Lineage(
            branch=case.branch,
            forget=case.forgotten,
            cohorts=(f"{self.stream}-recovery-cohorts", case.request.index),
            batches=(f"{self.stream}-recovery-batches", case.request.index),
            noise=self.noise_key("recovery", case),
            compact=True,
            cohorts_of_rest=True,
            first=case.round + done,
            last=case.round + done + rounds,
        )

    def _lineage(self, case: UnlearningCase, coupling: str) -> Lineage:
        """Say which streams a retraining shares with the first training."""
        fresh = case.request.index
        anew = coupling == "independent"
        return Lineage(
            branch=case.branch,
            forget=case.forgotten,
            init=(f"{self.stream}-init", fresh) if anew else ("init",),
            cohorts=(f"{self.stream}-cohorts", fresh) if anew else ("cohorts",),
            perturbation=(f"{self.stream}-perturbation", fresh) if anew else PERTURBATION,
            batches=("batches",) if coupling == "same-order" else (f"{self.stream}-batches", fresh),
            noise=self.noise_key("retraining", case),
            compact=coupling != "same-order",
            cohorts_of_rest=anew,
            last=case.round,
        )
