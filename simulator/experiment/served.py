"""An arm's server at work: it unlearns every request, and what it broadcasts goes into the transcript."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from palimpsest.server.ledger import Ledger
from palimpsest.server.session import Processed, Session
from palimpsest.simulator.experiment.broadcast import Broadcast
from palimpsest.simulator.experiment.diverged import UnservedArm
from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.experiment.training import heard_by_server
from palimpsest.simulator.federation.federation import Costs
from palimpsest.simulator.scenario.adversary import SERVER_TIERS
from palimpsest.simulator.world.errors import SettledFailure
from palimpsest.simulator.world.privacy.account import Account
from palimpsest.simulator.world.protocols.events import Observer, RequestDone, RoundDone
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.messages import MESSAGES, MessageWriter
from palimpsest.simulator.world.protocols.transcript import TranscriptWriter


@dataclass(frozen=True)
class Served:
    """What an arm's server did.

    Attributes:
        processed: the completed requests, in order.
        seconds: that it took, broadcasting left out.
        costs: what was asked of clients.
        account: what units of privacy have paid.
        requests: what became of each request, in the scenario's order.
        life: models that it made after the shared training, in order, where requests are a chain or there is but one.
    """

    processed: tuple[Processed, ...]
    seconds: float
    costs: Costs
    account: Account
    requests: tuple[RequestDone, ...]
    life: tuple[RoundDone, ...]


def serve(inputs: ArmInputs, transcript: Path, ledger: Path, observer: Observer) -> Served:
    """Let the arm's server process all requests; everything it broadcasts goes through the defense.

    Args:
        inputs: of the arm.
        transcript: the directory that everything broadcast is written to; must not exist.
        ledger: file that requests are written down in.
        observer: is told of releases and requests.

    Raises:
        UnservedArm: the method cannot go on, or a model is not finite.
    """
    arm, shared = inputs.arm, inputs.shared
    federation = shared.preparation.federation(shared.grid, arm.id)
    history = shared.history.under(_heard(inputs, federation, transcript / MESSAGES))
    began = time.perf_counter()
    adversary, deletion = arm.setting.adversary, arm.setting.deletion
    writer = TranscriptWriter(transcript, adversary.knows_bracket, adversary.round_to)
    broadcast = Broadcast(inputs, history, writer, observer, federation.costs)
    session = Session(
        history=history,
        unlearner=arm.unlearning,
        federation=history.retrainer.federation,
        ledger=Ledger(ledger, arm.id, shared.preparation.population.schema.site_names),
        publish=broadcast,
        sequential=deletion.pattern == "sequential",
        rounds_between=deletion.rounds_between,
        privacy_budget=inputs.privacy_budget,
        witness=broadcast,
    )
    try:
        processed = session.serve(shared.preparation.requests)
    except SettledFailure as error:
        seconds, account = time.perf_counter() - began, history.record.setup.account
        raise UnservedArm(str(error), replace(federation.costs), seconds, account) from error
    seconds = time.perf_counter() - began - broadcast.seconds
    return Served(
        processed=tuple(processed),
        seconds=seconds,
        costs=replace(federation.costs),
        account=history.record.setup.account,
        requests=tuple(sorted(broadcast.requests, key=lambda done: done.request)),
        life=tuple(broadcast.life),
    )


def _heard(inputs: ArmInputs, federation: Federation, folder: Path) -> Federation:
    """The arm's clients; where the adversary is the server, their messages follow those of the training."""
    shared, arm = inputs.shared, inputs.arm
    if shared.preparation.setting.adversary.sees in SERVER_TIERS:
        rounds = max((request.round for request in shared.preparation.requests), default=0)
        MessageWriter(folder).begin_with(shared.messages, rounds)
    return heard_by_server(shared.preparation, federation, shared.preparation.federation(shared.grid, arm.id), folder)
