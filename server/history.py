"""What the server keeps of a training, and how it trains again."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from server.algorithms import closed_form, fedavg, fedsgd, lbfgs
from server.algorithms.perturbation import drawn
from server.algorithms.step import Step, check_finite
from server.blocks import cohort, cut, drift, everyone, per_client, weighted_mean
from server.guarded import guarded
from server.setup import Lineage, Setup
from server.updates import UpdateStore
from simulator.world.defense import Memory
from simulator.world.models import flat, model_of
from simulator.world.protocols import PERTURBATION, Block, Drift, Federation, Outcome, Statistics, UnlearningCase
from simulator.world.records import Array, Forget, Params, Release
from simulator.world.seeding import Key, generator
from simulator.world.specs import ModelSpec, PrivateSteps, Recipe

ALGORITHMS = {
    "fedavg": fedavg.rounds,
    "fedsgd": fedsgd.rounds,
    "lbfgs": lbfgs.rounds,
    "closed-form": closed_form.rounds,
}


def train(
    setup: Setup,
    lineages: Sequence[Lineage],
    federation: Federation,
    starts: Sequence[Params] | None = None,
) -> Iterator[Step]:
    """Train lineages together, from their initialisations or from ``starts``, each from its ``first`` round."""
    if starts is None:
        model = model_of(setup.spec)
        starts = [model.init(generator(setup.seed, *lineage.init)) for lineage in lineages]
        if setup.plan.algorithm in ("fedavg", "fedsgd"):
            yield Step(range(len(lineages)), starts, 0)
    for step in ALGORITHMS[setup.plan.algorithm](setup, lineages, starts, federation):
        for params in step.models:
            check_finite(params, f"round {step.round} of training")
        yield step


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
    """

    setup: Setup
    federation: Federation
    stream: str = "unlearning"
    releases: list[Release] = field(default_factory=list)
    statistics: Statistics | None = None
    updates: UpdateStore | None = None
    public: Array | None = None
    drifts: list[Drift] | None = None

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

    def stored_for(self, needs: Collection[str]) -> int:
        """Bytes that the server keeps on disk or in memory for a method with these needs."""
        total = 0 if self.statistics is None else self.statistics.gram.nbytes + self.statistics.moment.nbytes
        if "releases" in needs:
            total += sum(value.nbytes for kept in self.releases for value in kept.params.values())
        if "client updates" in needs and self.updates is not None:
            total += self.updates.bytes
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
                self.drifts.append(drift(step.updates[0], self.sizes))
            release = Release(0, step.round, step.phase, step.models[0])
            self.releases.append(release)
            if step.phase == "training":
                self.setup.account.mark(step.round)
                memories.append(step.memories[0] if step.memories else {})
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
        shorter = recipe.model_copy(update={"local_epochs": max(1, math.floor(ratio * recipe.local_epochs + 0.5))})
        lineages = [
            Lineage(branch=case.branch, forget=case.forgotten, noise=self.noise_key("calibration", case))
            for case in cases
        ]
        return self._local(lineages, models, clients, round, shorter)

    def leavers_update(self, cases: Sequence[UnlearningCase], models: Sequence[Params]) -> list[Array]:
        """The ordinary update of each request's clients on all they are about to delete, weighted by their records."""
        lineages = [
            Lineage(
                branch=case.branch,
                forget={},
                batches=(f"{self.stream}-leaver", case.request.index),
                noise=self.noise_key("leaver", case),
            )
            for case in cases
        ]
        leavers = [list(case.request.forget) for case in cases]
        found = self._local(lineages, models, leavers, 0, self.setup.recipe)
        return [weighted_mean(updates, self.sizes) for updates in found]

    def _local(
        self,
        lineages: Sequence[Lineage],
        models: Sequence[Params],
        clients: Sequence[Sequence[int]],
        round: int,
        recipe: Recipe,
    ) -> list[dict[int, Array]]:
        """For each lineage client -> its update from the lineage's model, float64."""
        blocks = [b for i, lineage in enumerate(lineages) for b in cut(self.setup, lineage, i, clients[i])]
        results = self.federation.train(self.spec, models, blocks, round, recipe, each=True) if blocks else []
        return [
            {client: update.astype(np.float64) for client, update in updates.items()}
            for updates in per_client(blocks, results, len(models))
        ]

    def retrain(self, cases: Sequence[UnlearningCase], coupling: str) -> Iterator[Outcome]:
        """Run the whole training again for every case without what it forgets, all cases together."""
        lineages = [self._lineage(case, coupling) for case in cases]
        for step in train(self.setup, lineages, self.federation):
            for position, i in enumerate(step.lineages):
                phase = "unlearning" if step.phase == "training" else step.phase
                kept = step.statistics[position] if step.statistics else None
                release = Release(cases[i].branch, step.round, phase, step.models[position])
                yield Outcome(release, kept, perturbation=lineages[i].perturbation)

    def rollback(self, cases: Sequence[UnlearningCase]) -> Iterator[Outcome]:
        """Train every case again from the last release that nothing it forgets had touched, in the same streams.

        Where none of it was ever used, the model stays as it is, and nothing is asked of anybody.
        """
        used, restored = [], []
        for case in cases:
            if self._first_use(case.request.forget, case.round) == case.round:
                yield Outcome(Release(case.branch, case.round, "unlearning", case.before))
                continue
            clean = min(self._first_use(case.forgotten, case.round), case.request.round)
            used.append(case)
            restored.append(Release(case.branch, clean, "unlearning", self.released(clean)))
        yield from self.resume(used, restored)

    def resume(self, cases: Sequence[UnlearningCase], restored: Sequence[Release]) -> Iterator[Outcome]:
        """Yield a release of every case, and train on from there without what it forgets, in the trunk's streams."""
        for release in restored:
            yield Outcome(release)
        lineages = [
            replace(self._lineage(case, "same-order"), first=release.round, noise=self.noise_key("resumption", case))
            for case, release in zip(cases, restored, strict=True)
        ]
        if not lineages:
            return
        for step in train(self.setup, lineages, self.federation, starts=[release.params for release in restored]):
            for position, i in enumerate(step.lineages):
                yield Outcome(Release(lineages[i].branch, step.round, "unlearning", step.models[position]))

    def recover(
        self, cases: Sequence[UnlearningCase], starts: Sequence[Params], rounds: int, done: int = 0
    ) -> Iterator[Outcome]:
        """Run ordinary rounds without what each case forgets, on streams that all methods share."""
        if not cases or rounds == 0:
            return
        lineages = [self._recovering(case, done, rounds) for case in cases]
        for step in train(self.setup, lineages, self.federation, starts=starts):
            for position, i in enumerate(step.lineages):
                yield Outcome(Release(lineages[i].branch, step.round, "recovery", step.models[position]))

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

    def _first_use(self, forget: Forget, until: int) -> int:
        """The first round of the trunk in which a client read any of these records; ``until`` if none before did.

        A client that takes part reads all its records: every local epoch visits each of them once.
        """
        trunk = Lineage(branch=0, forget={})
        leavers = {client for client, records in forget.items() if records}
        return next((r for r in range(until) if leavers.intersection(cohort(self.setup, trunk, r))), until)

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
