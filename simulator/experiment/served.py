"""An arm's server at work: it unlearns every request, and what it broadcasts goes into the transcript."""

import itertools
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from palimpsest.server.history import History
from palimpsest.server.ledger import Ledger
from palimpsest.server.session import Processed, Session
from palimpsest.simulator.experiment.training import Trunk, heard_by_server
from palimpsest.simulator.federation.federation import Costs
from palimpsest.simulator.planning.plan import Arm
from palimpsest.simulator.planning.privacy import Meter, Treasurer
from palimpsest.simulator.scenario.adversary import SERVER_TIERS
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.privacy.account import Account
from palimpsest.simulator.world.privacy.noise import noise_of
from palimpsest.simulator.world.protocols.events import Observer, RequestDone, RoundDone
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.messages import MESSAGES, MessageWriter
from palimpsest.simulator.world.protocols.transcript import TranscriptWriter
from palimpsest.simulator.world.records import Array, DeletionRequest, Params, Release


@dataclass(frozen=True)
class ArmInputs:
    """What an arm is run from.

    Attributes:
        scenario: what the user wrote.
        arm: which combination this is.
        trunk: the trained model that it branches from.
    """

    scenario: Scenario
    arm: Arm
    trunk: Trunk

    @cached_property
    def treasurer(self) -> Treasurer:
        """Reads the privacy account by the scenario's rules."""
        privacy = self.scenario.privacy
        return Treasurer(Meter(privacy.delta, privacy.accountant), privacy.budget)

    def forgotten(self, processed: Processed) -> tuple[Array, Array]:
        """``[k, d]`` records of one request and their ``[k]`` labels: ground truth, for scoring only."""
        population = self.trunk.ground.population
        forget = processed.case.request.forget
        rows = np.concatenate([population.rows(client, records) for client, records in forget.items()])
        return population.take(rows)


@dataclass(frozen=True)
class Served:
    """What an arm's server did.

    Attributes:
        processed: the completed requests, in order.
        seconds: that it took, broadcasting left out.
        costs: what was asked of clients.
        account: what units of privacy have paid.
    """

    processed: tuple[Processed, ...]
    seconds: float
    costs: Costs
    account: Account


@dataclass
class Broadcast:
    """The way of an arm's releases from its server through the defense into the transcript.

    Attributes:
        inputs: of the arm.
        history: under which it unlearns, for the noise of its setup.
        writer: of the transcript.
        observer: is told of each release that is not the shared training's, and of each request.
        seconds: spent here so far.
    """

    inputs: ArmInputs
    history: History
    writer: TranscriptWriter
    observer: Observer
    seconds: float = 0.0
    _began: float = field(default_factory=time.perf_counter)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    @cached_property
    def _missed(self) -> range:
        """Rounds of training that the adversary does not hear: the last before the last request."""
        last = max((request.round for request in self.inputs.trunk.ground.requests), default=0)
        return range(last - self.inputs.arm.setting.adversary.missed_rounds + 1, last + 1)

    def __call__(self, release: Release, parent: int | None) -> tuple[int, Params]:
        """Publish one release; return its id in the transcript, and the model as broadcast."""
        began, arm = time.perf_counter(), self.inputs.arm
        noise = noise_of(
            arm.entropy, self.history.record.setup.noise(("release-noise",)), next(self._count), release.branch
        )
        heard = arm.defense.release(release, noise)
        if release.phase == "training" and release.round in self._missed:
            number = len(self.writer.heard) - 1  # the last one that was heard stands in for it
        else:
            number = self.writer.append(heard, parent)
        if id(release) not in self._shared:
            self.observer.round_done(self._round(release))
        self.seconds += time.perf_counter() - began
        return number, heard.params

    def request_done(self, request: DeletionRequest, done: Processed | str) -> None:
        """Tell of a request that was completed, or why it was refused."""
        began = time.perf_counter()
        refused, model = (done, None) if isinstance(done, str) else ("", done.released)
        self.observer.request_done(
            RequestDone(
                arm=self.inputs.arm.id,
                request=request.index,
                round=request.round,
                level=request.level,
                clients=tuple(request.forget),
                records=request.size,
                refused=refused,
                seconds=began - self._began,
                utility=None if model is None else self._judged(model)[0],
            )
        )
        self.seconds += time.perf_counter() - began

    @cached_property
    def _shared(self) -> set[int]:
        """Identities of the shared training's releases, which were told of when they came."""
        return {id(release) for release in self.inputs.trunk.history.record.releases}

    def _round(self, release: Release) -> RoundDone:
        """One release; it is measured where requests are a chain: there is one model at a time then."""
        chain = self.inputs.arm.setting.deletion.pattern == "sequential"
        utility, loss = self._judged(release.params) if chain else (None, None)
        training, arm = self.inputs.trunk.ground.label, self.inputs.arm.id
        seconds = time.perf_counter() - self._began
        return RoundDone(training, arm, release.branch, release.round, release.phase, seconds, utility, loss)

    def _judged(self, model: Params) -> tuple[float | None, float | None]:
        """Utility and mean loss on the test records; None where there are none."""
        if (judge := self.inputs.trunk.judge) is None:
            return None, None
        judged = judge([model])
        return float(judged.utility[0]), float(judged.losses.mean())


def serve(inputs: ArmInputs, transcript: Path, ledger: Path, observer: Observer) -> Served:
    """Let the arm's server process all requests; everything it broadcasts goes through the defense.

    Args:
        inputs: of the arm.
        transcript: the directory that everything broadcast is written to; must not exist.
        ledger: file that requests are written down in.
        observer: is told of releases and requests.

    Raises:
        RunFailure: the method cannot go on, or a model is not finite.
    """
    arm, trunk = inputs.arm, inputs.trunk
    federation = trunk.ground.federation(trunk.grid, arm.id)
    history = trunk.history.under(_heard(inputs, federation, transcript / MESSAGES))
    began = time.perf_counter()
    adversary, deletion = arm.setting.adversary, arm.setting.deletion
    writer = TranscriptWriter(transcript, adversary.knows_bracket, adversary.round_to)
    broadcast = Broadcast(inputs, history, writer, observer)
    session = Session(
        history=history,
        unlearner=arm.unlearning,
        federation=history.retrainer.federation,
        ledger=Ledger(ledger, arm.id),
        publish=broadcast,
        sequential=deletion.pattern == "sequential",
        rounds_between=deletion.rounds_between,
        treasurer=inputs.treasurer,
        report=broadcast.request_done,
    )
    processed = session.serve(trunk.ground.requests)
    seconds = time.perf_counter() - began - broadcast.seconds
    return Served(tuple(processed), seconds, replace(federation.costs), history.record.setup.account)


def _heard(inputs: ArmInputs, federation: Federation, folder: Path) -> Federation:
    """The arm's clients; where the adversary is the server, their messages follow those of the training."""
    trunk, arm = inputs.trunk, inputs.arm
    if trunk.ground.setting.adversary.sees in SERVER_TIERS:
        rounds = max((request.round for request in trunk.ground.requests), default=0)
        MessageWriter(folder).begin_with(trunk.messages, rounds)
    return heard_by_server(trunk.ground, federation, trunk.ground.federation(trunk.grid, arm.id), folder)
