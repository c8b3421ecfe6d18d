"""How the server trains again: from the start, from an earlier release, or on from a model."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from palimpsest.server import lineages as lineage_of
from palimpsest.server.aggregation import solved_ridge
from palimpsest.server.algorithms.step import states_of
from palimpsest.server.ascending import ascending_round
from palimpsest.server.blocks import cohort, everyone, local_updates, weighted_mean
from palimpsest.server.chain import Chain
from palimpsest.server.guarded import guarded
from palimpsest.server.participation import first_use
from palimpsest.server.record import Record
from palimpsest.server.setup import Lineage
from palimpsest.server.sharding import by_shard, merged
from palimpsest.server.training import train
from palimpsest.simulator.world.privacy.account import Charge
from palimpsest.simulator.world.protocols.defense import private_part
from palimpsest.simulator.world.protocols.federation import NOISE, Block, Federation, Statistics
from palimpsest.simulator.world.protocols.unlearning import Outcome, UnlearningCase
from palimpsest.simulator.world.records import Array, Params, Release
from palimpsest.simulator.world.seeding import Key, generator
from palimpsest.simulator.world.specs import Ascent


@dataclass
class Retrainer:
    """Trains again without what cases forget.

    Attributes:
        record: of the first training, or of a chain so far.
        federation: the clients; watched where the defense has them add noise.
        stream: prefix of the purposes of fresh randomness; arms share it, a hidden reference has its own.
        chain: follows what is trained, where requests are a chain; None: they are alternatives.
    """

    record: Record
    federation: Federation
    stream: str = "unlearning"
    chain: Chain | None = None

    def __post_init__(self) -> None:
        """Watch the way to the clients where the defense asks for it."""
        self.federation = guarded(self.federation, self.record.setup)

    def noise(self, purpose: str, case: UnlearningCase) -> np.random.Generator:
        """Randomness of the server's own for one case."""
        return generator(self.record.setup.seed, f"{self.stream}-{purpose}", case.request.index)

    def noise_key(self, purpose: str, case: UnlearningCase) -> Key:
        """Stream of the clients' noise in what one case asks of them."""
        return self.record.setup.noise((f"{self.stream}-{purpose}-noise", case.request.index))

    def private_ridge(self, case: UnlearningCase, statistics: Callable[[], Statistics]) -> Params | None:
        """Ridge from what a case retains, with fresh noise; None where no defense noises solutions."""
        setup = self.record.setup
        if (part := private_part(setup.defense)) is None or part.card.pays_at != "aggregation":
            return None
        return solved_ridge(setup, case.branch, case.forgotten, self.noise_key("solution", case), statistics())

    def calibrate(
        self,
        cases: Sequence[UnlearningCase],
        models: Sequence[Params],
        clients: Sequence[Sequence[int]],
        round: int,
        ratio: float,
    ) -> list[dict[int, Array]]:
        """Let clients train again as in one round of the first training, from other models."""
        recipe = self.record.setup.recipe
        length = "local_steps" if recipe.local_steps else "local_epochs"
        shorter = recipe.model_copy(update={length: max(1, math.floor(ratio * getattr(recipe, length) + 0.5))})
        lineages = [
            Lineage(branch=case.branch, forget=case.forgotten, noise=self.noise_key("calibration", case))
            for case in cases
        ]
        return local_updates(self.record.setup, self.federation, lineages, models, clients, round, shorter)

    def leavers_update(self, cases: Sequence[UnlearningCase], models: Sequence[Params]) -> list[Array]:
        """The ordinary update of each request's clients on all they are about to delete, weighted as in training."""
        setup = self.record.setup
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
        updates_of = local_updates(setup, self.federation, lineages, models, leavers, 0, setup.recipe)
        return [weighted_mean(updates.items(), setup.weights) for updates in updates_of]

    def ascending_round(self, cases: Sequence[UnlearningCase], ascent: Ascent) -> list[Params]:
        """The model of each case after a round in which who asks ascends, and an ordinary cohort of the rest trains."""
        lineages = [self._recovery(case, 0, 1) for case in cases]
        return ascending_round(self.record.setup, self.federation, cases, lineages, ascent)

    def retrain(self, cases: Sequence[UnlearningCase], coupling: str) -> Iterator[Outcome]:
        """Run the whole training again for every case without what it forgets, all cases together."""
        lineages = [self._retraining(case, coupling) for case in cases]
        for lineage in lineages:
            if lineage.noise == NOISE:  # the difference of two releases is free of it: what is deleted was not hidden
                self.record.setup.account.charge(lineage.branch, None, {}, Charge(0.0))
        for step in train(self.record.setup, lineages, self.federation):
            if self.chain:
                self.chain.append(step, lineages[0].forget)
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
        setup, used, restored = self.record.setup, [], []
        for case in cases:
            if first_use(setup, case.request.forget, case.round) == case.round:
                yield Outcome(Release(case.branch, case.round, "unlearning", case.before), states=case.states)
                continue
            clean = min(first_use(setup, case.forgotten, case.round), case.request.round)
            used.append(case)
            restored.append(Release(case.branch, clean, "unlearning", self.record.released(clean)))
        yield from self.resume(used, restored)

    def retrain_shards(self, cases: Sequence[UnlearningCase]) -> Iterator[Outcome]:
        """Train the shards that a request touches again, each from its last clean checkpoint, and merge all shards."""
        record = self.record
        models = [record.shard_models(case.round) for case in cases]
        states = [list(record.states_after(case.round)) for case in cases]
        parts = [(i, part) for i, case in enumerate(cases) for part in self._touched(case)]
        lineages = [part for _, part in parts]
        starts = [record.shard_models(part.first)[part.shard or 0] for part in lineages]
        for step in train(record.setup, lineages, self.federation, starts=starts) if lineages else ():
            for at, (position, model) in enumerate(zip(step.lineages, step.models, strict=True)):
                i, part = parts[position]
                shard, behind = part.shard or 0, states_of(step, at)
                models[i][shard] = model
                states[i][shard : shard + 1] = behind
                if self.chain:
                    self.chain.replace_shard(shard, step.round, model, behind)
                if record.setup.keep_working:
                    yield Outcome(Release(part.branch, step.round, "working", model))
        for case, of_shards, kept in zip(cases, models, states, strict=True):
            yield Outcome(Release(case.branch, case.round, "unlearning", merged(of_shards)), states=tuple(kept))

    def resume(self, cases: Sequence[UnlearningCase], restored: Sequence[Release]) -> Iterator[Outcome]:
        """Yield a release of every case, and train on from there without what it forgets, in the same streams."""
        for case, release in zip(cases, restored, strict=True):
            yield Outcome(release, states=self.record.states_after(release.round))
            if self.chain:
                self.chain.restore(case, release)
        lineages = []
        for case, release in zip(cases, restored, strict=True):
            lineage, noise = self._retraining(case, "same-order"), self.noise_key("resumption", case)
            states = self.record.states_after(release.round)
            lineages.append(replace(lineage, first=release.round, noise=noise, states=states))
        if not lineages:
            return
        starts = [release.params for release in restored]
        for step in train(self.record.setup, lineages, self.federation, starts=starts):
            if self.chain:
                self.chain.append(step, lineages[0].forget)
            for position, i in enumerate(step.lineages):
                resumed = Release(lineages[i].branch, step.round, "unlearning", step.models[position])
                yield Outcome(resumed, states=states_of(step, position))

    def recover(
        self, cases: Sequence[UnlearningCase], starts: Sequence[Params], rounds: int, done: int = 0
    ) -> Iterator[Outcome]:
        """Run ordinary rounds without what each case forgets, on streams that all methods share."""
        if not cases or rounds == 0:
            return
        lineages = [self._recovery(case, done, rounds) for case in cases]
        for step in train(self.record.setup, lineages, self.federation, starts=starts):
            for position, i in enumerate(step.lineages):
                recovered = Release(lineages[i].branch, step.round, "recovery", step.models[position])
                yield Outcome(recovered, states=states_of(step, position))

    def everyone(self, cases: Sequence[UnlearningCase]) -> list[Block]:
        """Blocks over what all clients retain, for every case: model i is case i's."""
        return everyone(self.record.setup, [Lineage(branch=case.branch, forget=case.forgotten) for case in cases])

    def members(self, case: UnlearningCase, done: int) -> tuple[int, ...]:
        """The cohort that the round of recovery after ``done`` others would draw."""
        return cohort(self.record.setup, self._recovery(case, done, 1), case.round + done)

    def _touched(self, case: UnlearningCase) -> Iterator[Lineage]:
        """The shards whose models read any of what a request deletes, each from before the first that it forgets."""
        for shard, forget in by_shard(self.record.setup, case.request.forget).items():
            clean = first_use(self.record.setup, forget, case.round, shard)
            if clean < case.round:
                states = self.record.states_after(clean)[shard : shard + 1]
                yield replace(self._retraining(case, "same-order"), shard=shard, first=clean, states=states)

    def _retraining(self, case: UnlearningCase, coupling: str) -> Lineage:
        return lineage_of.retraining(case, coupling, self.stream, self.noise_key("retraining", case))

    def _recovery(self, case: UnlearningCase, done: int, rounds: int) -> Lineage:
        return lineage_of.recovery(case, done, rounds, self.stream, self.noise_key("recovery", case))
