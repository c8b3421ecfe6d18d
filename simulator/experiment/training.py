"""What arms share: the population, the trained model, the requests, and a hidden retraining to compare with."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from palimpsest.server.arrivals import timeline, union, without
from palimpsest.server.history import History
from palimpsest.server.overheard import OverheardFederation
from palimpsest.server.rehearsal import SilentClients
from palimpsest.server.shard_store import ShardStore
from palimpsest.server.updates import UpdateStore
from palimpsest.simulator.federation.federation import GridFederation
from palimpsest.simulator.federation.grids import Grid
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.planning.privacy import EpsilonMeter
from palimpsest.simulator.scenario.adversary import SERVER_TIERS
from palimpsest.simulator.scenario.sections import EvaluationConfig
from palimpsest.simulator.unlearning_metrics.compare import UnlearningEvaluator
from palimpsest.simulator.unlearning_metrics.evaluation import UtilityEvaluator, distance
from palimpsest.simulator.unlearning_metrics.reference import Reference, retrained
from palimpsest.simulator.unlearning_metrics.relearning import relearn
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.events import RoundDone
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.messages import MESSAGES, MessageWriter
from palimpsest.simulator.world.protocols.unlearning import Drift, UnlearningCase
from palimpsest.simulator.world.records import Forget, Params, Release, branch_of


@dataclass(frozen=True)
class PackedTraining:
    """What one process leaves of a ``SharedTraining`` for another one; two of one name are the same.

    Attributes:
        name: of the training, on this machine.
        preparation: what it is made of.
        history: without the way to the clients, and without the public sample.
        reference: the hidden retrainings.
        rounds: what was measured of each release.
        messages: folder of what clients sent, where the adversary hears it.
    """

    name: str
    preparation: PreparedTraining = field(compare=False)
    history: History = field(compare=False)
    reference: Reference = field(compare=False)
    rounds: Sequence[RoundDone] = field(compare=False)
    messages: Path = field(compare=False)


@dataclass
class SharedTraining:
    """One training that several arms branch from.

    Attributes:
        preparation: what it is made of.
        grid: Flower's way to the hosts.
        history: what the server keeps, once trained.
        reference: retrainings without a request's records (and those of earlier requests, where sequential).
        rounds: what was measured of each release, once trained.
        messages: folder of what clients sent, where the adversary hears it.
    """

    preparation: PreparedTraining
    grid: Grid
    history: History
    reference: Reference = field(default_factory=Reference)
    rounds: list[RoundDone] = field(default_factory=list)
    messages: Path = Path()

    @classmethod
    def of(
        cls,
        preparation: PreparedTraining,
        grid: Grid,
        needs: Collection[str] = (),
        scratch: Path = Path(),
        compressed: bool = False,
    ) -> "SharedTraining":
        """Prepare a training; nothing is sent yet.

        Args:
            preparation: what is trained.
            grid: the hosts.
            needs: of the arms' methods; what none of them needs is not kept.
            scratch: for histories that do not fit into memory.
            compressed: whether clients' updates lie there compressed.
        """
        federation = heard_by_server(
            preparation, _clients(preparation, grid), _clients(preparation, grid), scratch / MESSAGES
        )
        updates = UpdateStore(scratch, compressed) if "client updates" in needs else None
        drifts: list[Drift] | None = [] if "client drift" in needs else None
        shards = ShardStore(scratch / "shards") if preparation.setup.plan.shards > 1 else None
        public = preparation.population.public_x
        history = History.of(
            preparation.setup, federation, updates=updates, public=public, drifts=drifts, shards=shards
        )
        return cls(preparation, grid, history, messages=scratch / MESSAGES)

    @classmethod
    def taken_up(cls, trained: PackedTraining, grid: Grid) -> "SharedTraining":
        """A training that is done, before other hosts; nothing is sent yet."""
        preparation = trained.preparation
        history = trained.history.joined(_clients(preparation, grid), preparation.population.public_x)
        return cls(preparation, grid, history, trained.reference, list(trained.rounds), trained.messages)

    def leave(self, name: str) -> PackedTraining:
        """What another process needs to take the training up."""
        history = self.history.joined(SilentClients(), None)
        return PackedTraining(name, self.preparation, history, self.reference, self.rounds, self.messages)

    def train(self, meter: EpsilonMeter) -> Iterator[RoundDone]:
        """Train; yield what is measured of each release, as it comes.

        Args:
            meter: reads the privacy account in epsilon.
        """
        began, previous = time.perf_counter(), None
        for release in self.history.train():
            self.rounds.append(self._measured(release, previous, time.perf_counter() - began, meter))
            previous = release.params
            yield self.rounds[-1]

    @cached_property
    def utility_evaluator(self) -> UtilityEvaluator | None:
        """Evaluates models on the test records; None where there are none."""
        population = self.preparation.population
        if not len(population.test_x):
            return None
        return UtilityEvaluator(model_of(self.preparation.setup.spec), population.test_x, population.test_y)

    def _measured(self, release: Release, previous: Params | None, seconds: float, meter: EpsilonMeter) -> RoundDone:
        """Utility, loss, movement and, under privacy, the highest epsilon at one release of the training."""
        judged = None if self.utility_evaluator is None else self.utility_evaluator([release.params])
        account = self.history.record.setup.account
        private = account.unit is not None and release.phase == "training"
        return RoundDone(
            training=self.preparation.label,
            arm="",
            branch=release.branch,
            round=release.round,
            phase=release.phase,
            seconds=seconds,
            utility=None if judged is None else float(judged.utility[0]),
            loss=None if judged is None else float(judged.losses.mean()),
            update_norm=None if previous is None else distance(release.params, previous),
            epsilon=meter.highest(account, [0], account.marks[release.round]) if private else None,
            step=sum(done.phase != "working" for done in self.rounds) - (release.phase == "working"),
        )

    @cached_property
    def evaluator(self) -> UnlearningEvaluator:
        """What measures the models of all arms."""
        preparation = self.preparation
        return UnlearningEvaluator(
            model_of(preparation.setup.spec),
            preparation.population,
            preparation.setting.data.backdoor,
            preparation.entropy,
        )

    def retrain_reference(self, how: EvaluationConfig) -> None:
        """Retrain for every request with randomness of its own: what unlearning should reach."""
        cases = self._cases()
        federation = partial(self.preparation.federation, self.grid)
        self.reference = retrained(self.history, federation, cases, how.retrainings, self.evaluator.on_test)
        if how.relearning:
            self.reference.relearning = self.relearn("reference", cases, self.reference.models[0], how.relearning)

    def relearn(
        self, arm: str, cases: Sequence[UnlearningCase], models: Mapping[int, Params], most: int
    ) -> dict[int, int]:
        """Rounds in which models learn again what they forgot, by request index.

        Nothing where the optimum is solved for, or where training goes on from the models of shards.

        Args:
            arm: its clients take back, for once, what they buried in it.
            cases: the requests.
            models: by request index.
            most: rounds after which a model is given up; 0: nothing is tried.
        """
        plan = self.preparation.setup.plan
        if most == 0 or plan.algorithm not in ("fedavg", "fedsgd") or plan.shards > 1:
            return {}
        history = self.history.under(self.preparation.federation(self.grid, f"relearning {arm}"))
        starts = [models[case.request.index] for case in cases]
        losses = [self.evaluator.loss_of(case.request.forget) for case in cases]
        needed = relearn(history, cases, starts, losses, most)
        return {case.request.index: rounds for case, rounds in zip(cases, needed, strict=True)}

    def _cases(self) -> Sequence[UnlearningCase]:
        """Each request as a branch of its own, with what is gone by then."""
        sequential = self.preparation.setting.deletion.pattern == "sequential"
        gone: Forget = {}
        cases, done = [], 0
        for arrival in timeline(self.preparation.requests):
            request = arrival.request
            if arrival.back:
                gone = without(gone, request.forget)
                continue
            forgotten, arrives = request.forget, request.round
            if sequential:
                gone = union(gone, request.forget)
                forgotten, arrives = gone, max(arrives, done)
            done = arrives + self.preparation.setting.deletion.rounds_between
            before = self.history.record.released(request.round)
            cases.append(UnlearningCase(branch_of(request), request, forgotten, done, before))
        return cases


def heard_by_server(preparation: PreparedTraining, inner: Federation, aside: Federation, folder: Path) -> Federation:
    """The clients, what they send written to a folder where the adversary is the server.

    Args:
        preparation: of the training.
        inner: the clients.
        aside: the same clients, whose costs nobody counts.
        folder: of the messages; left alone where the adversary hears none.
    """
    sees = preparation.setting.adversary.sees
    if sees not in SERVER_TIERS:
        return inner
    return OverheardFederation(inner, aside, preparation.setup, MessageWriter(folder), singly=sees == "updates")


def _clients(preparation: PreparedTraining, grid: Grid) -> GridFederation:
    """The clients as they are before anything is deleted."""
    return preparation.federation(grid, f"trunk-{preparation.setting.variant}")
