"""What the server keeps of a training, and how it trains again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from server.algorithms import closed_form, fedavg, fedsgd, lbfgs
from server.algorithms.step import Step
from server.setup import Lineage, Setup
from simulator.world.models import model_of
from simulator.world.protocols import Federation, Outcome, Statistics, UnlearningCase
from simulator.world.records import Params, Release
from simulator.world.seeding import generator
from simulator.world.specs import ModelSpec

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
    first: int = 0,
) -> Iterator[Step]:
    """Train lineages together, from their initialisations or from ``starts`` with ``first`` rounds behind them."""
    if starts is None:
        model = model_of(setup.spec)
        starts = [model.init(generator(setup.seed, *lineage.init)) for lineage in lineages]
        if setup.plan.algorithm in ("fedavg", "fedsgd"):
            yield Step(range(len(lineages)), starts, 0)
    yield from ALGORITHMS[setup.plan.algorithm](setup, lineages, starts, first, federation)


@dataclass
class History:
    """What is kept of one training run.

    Attributes:
        setup: how it was trained.
        federation: who can train again.
        stream: purpose of the randomness of retrainings; arms share it, a hidden reference has its own.
        releases: of the trunk, in order.
        statistics: of the trunk (closed form only).
    """

    setup: Setup
    federation: Federation
    stream: str = "unlearning"
    releases: list[Release] = field(default_factory=list)
    statistics: Statistics | None = None

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return self.setup.spec

    def under(self, federation: Federation) -> "History":
        """The same history, with clients that know other tombstones."""
        return replace(self, federation=federation)

    def run(self) -> Iterator[Release]:
        """Train the trunk, keeping what it releases."""
        for step in train(self.setup, [Lineage(branch=0, forget={})], self.federation):
            release = Release(0, step.round, step.phase, step.models[0])
            self.releases.append(release)
            self.statistics = step.statistics[0] if step.statistics else self.statistics
            yield release

    def after(self, round: int) -> int:
        """Position in ``releases`` of the trunk's release after so many rounds."""
        return max(i for i, kept in enumerate(self.releases) if kept.round == round and kept.phase == "training")

    def retrain(self, cases: Sequence[UnlearningCase], coupling: str) -> Iterator[Outcome]:
        """Run the whole training again for every case without what it forgets, all cases together."""
        lineages = [self._lineage(case, coupling) for case in cases]
        for step in train(self.setup, lineages, self.federation):
            for position, i in enumerate(step.lineages):
                phase = "unlearning" if step.phase == "training" else step.phase
                kept = step.statistics[position] if step.statistics else None
                yield Outcome(Release(cases[i].branch, step.round, phase, step.models[position]), kept)

    def _lineage(self, case: UnlearningCase, coupling: str) -> Lineage:
        """Say which streams a retraining shares with the first training."""
        fresh = case.request.index
        anew = coupling == "independent"
        return Lineage(
            branch=case.branch,
            forget=case.forgotten,
            init=(f"{self.stream}-init", fresh) if anew else ("init",),
            cohorts=(f"{self.stream}-cohorts", fresh) if anew else ("cohorts",),
            batches=("batches",) if coupling == "same-order" else (f"{self.stream}-batches", fresh),
            compact=coupling != "same-order",
            cohorts_of_rest=anew,
            last=case.round,
        )
