"""A whole server in a few lines: population, federation, training, deletion."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from palimpsest.server.history import History
from palimpsest.server.ledger import Ledger
from palimpsest.server.session import PrivacyBudget, Processed, Session
from palimpsest.server.setup import Setup, TrainingPlan
from palimpsest.server.shard_store import ShardStore
from palimpsest.server.updates import UpdateStore
from palimpsest.simulator.federation.federation import GridFederation
from palimpsest.simulator.federation.local_grid import LocalGrid, SerialGrid
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.privacy.account import Account
from palimpsest.simulator.world.protocols.defense import Defense, private_part
from palimpsest.simulator.world.protocols.transcript import digest_of
from palimpsest.simulator.world.protocols.unlearning import Drift, Unlearner
from palimpsest.simulator.world.records import DeletionRequest, Params, Release
from palimpsest.simulator.world.specs import ModelSpec, Precision, Recipe

SOFTMAX = ModelSpec(kind="softmax", task="classification", shape=(1, 8, 8), outputs=10, regularisation=3.0)
RIDGE = ModelSpec(kind="ridge", task="classification", shape=(1, 8, 8), outputs=10, regularisation=1.0, dtype="float64")
FEDAVG = TrainingPlan(
    algorithm="fedavg",
    rounds=4,
    clients_per_round=6,
    recipe=Recipe(batch_size=8, learning_rate=0.1, l2=0.01, local_epochs=2),
)


@dataclass
class Bench:
    """Runs sessions and keeps what they broadcast."""

    population: Population
    directory: Path
    spec: ModelSpec = SOFTMAX
    plan: TrainingPlan = FEDAVG
    grid: LocalGrid = field(default_factory=lambda: SerialGrid(1))
    block_size: int = 4
    seed: int = 0
    arm: str = "arm"
    precision: Precision = "highest"
    keep_working: bool = False
    defense: Defense = field(default_factory=Defense)
    privacy_budget: PrivacyBudget | None = None
    sampling_is_secret: bool = False
    broadcast: list[Release] = field(default_factory=list)
    account: Account = field(default_factory=lambda: Account(None, np.zeros(0)))

    def federation(self) -> GridFederation:
        self.population.save(self.directory / "population")
        about: dict[str, Any] = {"data": {}, "directory": str(self.directory / "population")}
        sizes, precision = self.population.sizes, self.precision
        return GridFederation(self.grid, about, sizes, self.seed, self.arm, precision=precision)

    def history(self, updates: bool = False, drifts: bool = False, shards: bool = False) -> History:
        setup = Setup(self.spec, self.plan, self.population.sizes, self.block_size, self.seed)
        unit = part.card.unit if (part := private_part(self.defense)) else None
        account = Account(unit, self.population.sizes)
        setup = replace(
            setup,
            keep_working=self.keep_working,
            defense=self.defense,
            account=account,
            sampling_is_secret=self.sampling_is_secret,
        )
        store = UpdateStore(self.directory / "updates") if updates else None
        lengths: list[Drift] | None = [] if drifts else None
        public = self.population.public_x
        models = ShardStore(self.directory / "shards") if shards else None
        history = History.of(setup, self.federation(), updates=store, public=public, drifts=lengths, shards=models)
        list(history.train())
        return history

    def serve(
        self, unlearner: Unlearner, requests: list[DeletionRequest], sequential: bool = False, rounds_between: int = 0
    ) -> list[Processed]:
        """Train, process all requests, and return them; ``broadcast`` holds everything in order."""
        self.broadcast = []

        def publish(release: Release, parent: int | None) -> tuple[int, Params]:
            self.broadcast.append(release)
            return len(self.broadcast) - 1, release.params

        wanted = ("client updates", "client drift", "shard checkpoints")
        updates, drifts, shards = (need in unlearner.card.needs for need in wanted)
        history = self.history(updates, drifts, shards or self.plan.shards > 1)
        self.account = history.record.setup.account
        ledger = Ledger(RunDirectory(self.directory).ledger, self.arm)
        session = Session(
            history,
            unlearner,
            history.retrainer.federation,
            ledger,
            publish,
            sequential,
            rounds_between,
            self.privacy_budget,
        )
        return session.serve(requests)

    def digest(self) -> str:
        return digest_of(release.params for release in self.broadcast)

    def but(self, **changes: Any) -> "Bench":
        return replace(self, **changes)


def record_requests(population: Population, count: int, rounds: int, size: int = 1) -> list[DeletionRequest]:
    """Requests of different clients that hold more than they delete."""
    able = np.flatnonzero(population.sizes > size)
    return [DeletionRequest(i, rounds, "record", {int(able[i % len(able)]): tuple(range(size))}) for i in range(count)]
