"""What a run tells while it goes on, and who may listen: the terminal, the disk, tracking, a user's own code."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from palimpsest.simulator.world.records import Level, Phase


@dataclass(frozen=True)
class StageBegan:
    """The run does something else from here on; the stage before is over.

    Attributes:
        name: of the stage, for the user.
        total: steps that it has; None where their number is unknown.
        counts: what a step of it is; None where it has no steps.
        arms: where arms are done one after the other, how many of the run are done by now, and how many there are.
    """

    name: str
    total: int | None = None
    counts: Literal["rounds", "arms"] | None = None
    arms: tuple[int, int] | None = None


@dataclass(frozen=True)
class Noted:
    """Something that is worth a line of its own.

    Attributes:
        text: the line.
    """

    text: str


@dataclass(frozen=True)
class RoundDone:
    """A model was released.

    Attributes:
        training: label of the training, such as ``softmax seed 0``.
        arm: id of the arm whose server released it; empty for the training that arms share.
        branch: of the release, 0 for the training's.
        round: rounds of training that the model has behind it; 0 for the initial model.
        phase: what the server was doing.
        seconds: since the training, or the arm, began.
        utility: accuracy, or R^2 for regression, on the test records; None where it was not measured.
        loss: mean on the test records, without the regulariser; None where it was not measured.
        update_norm: distance to the release before; None for the first and where it was not measured.
        epsilon: highest of any unit by now, leavers included; None without privacy and where it was not measured.
        step: models that the server had made before this one, rounds that nobody hears included: the axis of its whole
            life. Working models have the step of the model before; None where requests are alternatives.
        request: index of the request that is being processed; None in training.
    """

    training: str
    arm: str
    branch: int
    round: int
    phase: Phase
    seconds: float
    utility: float | None = None
    loss: float | None = None
    update_norm: float | None = None
    epsilon: float | None = None
    step: int | None = None
    request: int | None = None


@dataclass(frozen=True)
class RequestDone:
    """An arm's server has completed or refused a request. What does not apply, or was not measured, is None.

    Attributes:
        arm: id of the arm.
        request: its index among the scenario's requests.
        round: of training after which it arrived.
        level: record, label or client.
        clients: who asked.
        records: how many are to be deleted.
        refused: why it was refused; empty where it was completed.
        seconds: since the arm began; requests that are processed together are done together.
        utility: of the model that it ended in; None where it was refused and where there are no test records.
        name: of who asked: the site's name, or ``client 3`` where it has none; the first three of several.
        utility_before: of the model that was unlearned from.
        epsilon_leaver: highest epsilon of a deleted unit by now.
        epsilon_retained: highest epsilon of a unit that stays, by now; None where nobody stays.
        epsilon_retained_before: the same before this request was unlearned: what it rose by, they paid for it.
        took: seconds of this request alone, broadcasting left out. This and the costs below are None where requests
            that are alternatives are unlearned together.
        client_updates: local trainings and full-batch answers of single clients.
        bytes_up, bytes_down: what those clients would send and receive.
        clients_left, records_left: that the federation holds by now; 0: the released model stands for nobody's data.
        step: of the released model, see ``RoundDone``.
    """

    arm: str
    request: int
    round: int
    level: Level
    clients: tuple[int, ...]
    records: int
    refused: str
    seconds: float
    utility: float | None = None
    name: str = ""
    utility_before: float | None = None
    epsilon_leaver: float | None = None
    epsilon_retained: float | None = None
    epsilon_retained_before: float | None = None
    took: float | None = None
    client_updates: int | None = None
    bytes_up: int | None = None
    bytes_down: int | None = None
    clients_left: int | None = None
    records_left: int | None = None
    step: int | None = None


@dataclass(frozen=True)
class TrainingDone:
    """A training that arms share is done, and the hidden retrainings to compare with.

    Attributes:
        training: its label.
        seconds: that both took.
    """

    training: str
    seconds: float


@dataclass(frozen=True)
class ArmDone:
    """An arm is served, attacked and assessed; its results are on disk.

    Attributes:
        arm: its id.
        requests: that were made.
        completed: how many of them were.
        seconds: that all of it took.
    """

    arm: str
    requests: int
    completed: int
    seconds: float


Event: TypeAlias = StageBegan | Noted | RoundDone | RequestDone | TrainingDone | ArmDone


class Observer(Protocol):
    """Is told of a run's events, from one thread at a time. What it raises ends its listening, and never the run.

    An arm that is begun anew, after an interruption or the death of a host, tells its events again: the last of equal
    keys counts.
    """

    def stage_began(self, event: StageBegan) -> None:
        """The run does something else from here on."""
        ...

    def noted(self, event: Noted) -> None:
        """There is something to say."""
        ...

    def round_done(self, event: RoundDone) -> None:
        """A model was released."""
        ...

    def request_done(self, event: RequestDone) -> None:
        """A request was completed or refused."""
        ...

    def training_done(self, event: TrainingDone) -> None:
        """A training is done."""
        ...

    def arm_done(self, event: ArmDone) -> None:
        """An arm is done."""
        ...


class Silent:
    """Hears everything and does nothing: the base of observers that want only some events."""

    def stage_began(self, event: StageBegan) -> None:
        """Ignore."""

    def noted(self, event: Noted) -> None:
        """Ignore."""

    def round_done(self, event: RoundDone) -> None:
        """Ignore."""

    def request_done(self, event: RequestDone) -> None:
        """Ignore."""

    def training_done(self, event: TrainingDone) -> None:
        """Ignore."""

    def arm_done(self, event: ArmDone) -> None:
        """Ignore."""


def tell(observer: Observer, event: Event) -> None:
    """Call the observer's method for an event."""
    match event:
        case StageBegan():
            observer.stage_began(event)
        case Noted():
            observer.noted(event)
        case RoundDone():
            observer.round_done(event)
        case RequestDone():
            observer.request_done(event)
        case TrainingDone():
            observer.training_done(event)
        case ArmDone():
            observer.arm_done(event)
