"""The sections of a scenario but for data (``world.data.build``) and methods (``registry``)."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from palimpsest.simulator.scenario.adversary import AdversaryConfig
from palimpsest.simulator.scenario.model import ModelConfig
from palimpsest.simulator.scenario.strategy import checked_options
from palimpsest.simulator.world.data.build import DataConfig
from palimpsest.simulator.world.records import Level
from palimpsest.simulator.world.specs import Frozen, Optimizer, Schedule

Algorithm = Literal["fedavg", "fedsgd", "lbfgs", "closed-form"]
Pattern = Literal["independent", "sequential", "simultaneous"]

Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class SamplingConfig(Frozen):
    """Each client takes part in a round with probability ``rate``, independently of the others."""

    scheme: Literal["poisson"] = "poisson"
    rate: float = Field(gt=0, le=1)


class StopConfig(Frozen):
    """When lbfgs stops.

    Attributes:
        gradient_norm: of the objective (a sum over records, so it grows with them).
        max_evaluations: of the gradient; the run fails where they do not suffice.
    """

    gradient_norm: Positive = 1e-6
    max_evaluations: int = Field(default=2000, ge=2)


class TrainingConfig(Frozen):
    """How the model is trained.

    Every other key is a hyper-parameter of the strategy.

    Attributes:
        algorithm: fedavg and fedsgd run ``rounds`` rounds; lbfgs and closed-form solve for the optimum and read only
            ``stop``.
        strategy: fedavg only: a name in the table of strategies.
        clients_per_round: drawn without replacement; 0: all; by default 20, or all where there are fewer.
        sampling: in place of clients_per_round.
        local_epochs, batch_size: fedavg only.
        local_steps: in place of epochs: so many steps, each on a batch drawn afresh, of clients that count equally
            whatever they hold (0: epochs); fedavg only.
        learning_rate, momentum: of the clients' SGD; fedsgd: of the server's step.
        optimizer: fedavg only: how clients step; adam and adamw as in torch, their moments last for one round.
        schedule: fedavg only: of the clients' learning rate over the rounds: constant; cosine, down to nearly 0;
            exponential, by the factor ``decay`` a round.
        stop: lbfgs only.
        start: release 0 is drawn at random, or trained on the public sample for ``start_epochs``, as where a model that
            others published is trained on; fedavg and fedsgd.
        shards: models trained apart, each by its share of the clients and of ``clients_per_round``, and merged where
            one is released; fedavg and fedsgd.
        perturbation: deviation of a random linear term of the objective (a sum over records); lbfgs and closed-form.
    """

    model_config = ConfigDict(extra="allow")

    algorithm: Algorithm = "fedavg"
    strategy: str = "fedavg"
    rounds: Count = 20
    clients_per_round: int = Field(default=20, ge=0)
    sampling: SamplingConfig | None = None
    local_epochs: Count = 1
    local_steps: int = Field(default=0, ge=0)
    batch_size: Count = 10
    learning_rate: Positive = 0.05
    momentum: float = Field(default=0.0, ge=0, lt=1)
    optimizer: Optimizer = "sgd"
    schedule: Schedule = "constant"
    decay: float = Field(default=0.99, gt=0, le=1)
    stop: StopConfig = StopConfig()
    start: Literal["random", "public"] = "random"
    start_epochs: Count = 10
    shards: Count = 1
    perturbation: NotNegative = 0.0

    @property
    def strategy_options(self) -> dict[str, Any]:
        """The strategy's hyper-parameters, defaults included."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="before")
    @classmethod
    def _of_its_strategy(cls, given: Any) -> Any:
        """Check the strategy's hyper-parameters, and fill in their defaults."""
        if not isinstance(given, dict) or not isinstance(name := given.get("strategy", "fedavg"), str):
            return given
        options = {key: value for key, value in given.items() if key not in cls.model_fields}
        rest = {key: value for key, value in given.items() if key in cls.model_fields}
        return rest | checked_options(name, options, set(cls.model_fields))

    @model_validator(mode="after")
    def _one_length_of_local_training(self) -> "TrainingConfig":
        if self.local_steps and self.local_epochs > 1:
            raise ValueError(
                f"local_steps = {self.local_steps} and local_epochs = {self.local_epochs} are two lengths of local "
                f"training; give one"
            )
        if self.local_steps and self.algorithm != "fedavg":
            raise ValueError(f"local_steps = {self.local_steps} is for algorithm = 'fedavg', not {self.algorithm!r}")
        return self

    @model_validator(mode="after")
    def _a_start_for_rounds(self) -> "TrainingConfig":
        if self.start == "public" and self.algorithm not in ("fedavg", "fedsgd"):
            raise ValueError(
                f"start = 'public' is for algorithm = 'fedavg' or 'fedsgd': {self.algorithm!r} ends in one optimum, "
                f"wherever it starts"
            )
        return self

    @model_validator(mode="after")
    def _steps_of_clients(self) -> "TrainingConfig":
        if self.algorithm != "fedavg":
            for key, plain in (("optimizer", "sgd"), ("schedule", "constant")):
                if getattr(self, key) != plain:
                    raise ValueError(
                        f"{key} = {getattr(self, key)!r} is for algorithm = 'fedavg', not {self.algorithm!r}"
                    )
        if self.optimizer != "sgd" and self.momentum:
            raise ValueError(f"momentum = {self.momentum} is for optimizer = 'sgd', not {self.optimizer!r}; give 0")
        if self.schedule != "exponential" and self.decay != TrainingConfig.model_fields["decay"].default:
            raise ValueError(f"decay = {self.decay} is for schedule = 'exponential', not {self.schedule!r}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _one_way_of_sampling(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("sampling") is None:
            return given
        wanted = given.get("clients_per_round", 0)
        if wanted:
            raise ValueError(f"clients_per_round = {wanted} and sampling are two ways of drawing clients; give one")
        return given | {"clients_per_round": 0}


class RequestConfig(Frozen):
    """One deletion, spelled out.

    Attributes:
        round: training round after which it arrives; 0: the last.
        level: of this request; by default the section's.
        client: who asks: a number from 0, or the client's name.
        records: level record: local indices, from 0 to the client's size.
        label: level label.
        rejoin: level client, pattern sequential: training round after which the client takes part again, with a new
            consent for its records; 0: never.
    """

    round: int = Field(default=0, ge=0)
    level: Level | None = None
    client: int | str | None = None
    records: tuple[Annotated[int, Field(ge=0)], ...] = ()
    label: int | None = Field(default=None, ge=0)
    rejoin: int = Field(default=0, ge=0)

    @field_validator("client", mode="before")
    @classmethod
    def _number_or_name(cls, client: Any) -> Any:
        if client is None or (isinstance(client, str) and client):
            return client
        if isinstance(client, int) and not isinstance(client, bool) and client >= 0:
            return client
        raise ValueError("must be a client's number, from 0, or its name")


class DeletionConfig(Frozen):
    """What is deleted, and when.

    Attributes:
        level: record: some records of a client; label: a class; client: all records of a client.
        pattern: independent: each request is an alternative branch from the same checkpoint; sequential: one after the
            other, each on the last release; simultaneous: ``group`` clients' requests are unlearned together.
        requests: how many, drawn at random; simultaneous: so many groups.
        records_per_request: level record only.
        group: simultaneous only.
        scope: level label only: the class of all clients, or of one.
        fraction: level label only, drawn requests: the share of the class's records that goes.
        rounds_between: ordinary rounds, unseen, between a request and its unlearning; fedavg and fedsgd only.
        leaver_online: whether clients still answer about what they delete; false: they are gone by then.
        request: the requests spelled out, in place of drawn ones.
    """

    level: Level = "record"
    pattern: Pattern = "independent"
    requests: Count = 50
    records_per_request: Count = 1
    group: Count = 1
    scope: Literal["all", "client"] = "all"
    fraction: float = Field(default=1.0, gt=0, le=1)
    rounds_between: int = Field(default=0, ge=0)
    leaver_online: bool = True
    request: tuple[RequestConfig, ...] = ()

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "DeletionConfig":
        if self.records_per_request > 1 and self.level != "record":
            raise ValueError(
                f"records_per_request = {self.records_per_request} is for level = 'record', not {self.level!r}"
            )
        if self.group > 1 and self.pattern != "simultaneous":
            raise ValueError(f"group = {self.group} is for pattern = 'simultaneous', not {self.pattern!r}")
        if self.scope != "all" and self.level != "label":
            raise ValueError(f"scope = {self.scope!r} is for level = 'label', not {self.level!r}")
        if self.fraction < 1.0 and (self.level != "label" or self.request):
            raise ValueError(f"fraction = {self.fraction:g} is for drawn requests of level = 'label'")
        if self.pattern == "simultaneous" and self.level == "label":
            raise ValueError(
                "pattern = 'simultaneous' groups clients, and level = 'label' has none; take level record or client"
            )
        if self.request and self.pattern == "simultaneous":
            raise ValueError("request spells deletions out, which needs pattern = 'independent' or 'sequential'")
        for position, request in enumerate(self.request):
            self._check_request(f"request.{position}", request)
            if request in self.request[:position]:
                raise ValueError(f"request.{position} is request.{self.request.index(request)} again; remove one")
        return self

    @property
    def levels(self) -> tuple[Level, ...]:
        """Those that occur: of the requests where they are spelled out, else the section's."""
        return tuple(dict.fromkeys(request.level or self.level for request in self.request)) or (self.level,)

    def _check_request(self, path: str, request: RequestConfig) -> None:
        level = request.level or self.level
        given = {
            "client": request.client is not None,
            "records": bool(request.records),
            "label": request.label is not None,
        }
        needed = {"record": {"client", "records"}, "label": {"label"}, "client": {"client"}}[level]
        if level == "label" and self.scope == "client":
            needed = {"label", "client"}
        wanted = f"level = {level!r} needs {' and '.join(sorted(needed))} and nothing else"
        for key, present in given.items():
            if present != (key in needed):
                raise ValueError(f"{path}.{key} {'is given' if present else 'is missing'}; {wanted}")
        if request.rejoin and (level, self.pattern) != ("client", "sequential"):
            raise ValueError(
                f"{path}.rejoin = {request.rejoin} needs level = 'client' and pattern = 'sequential': elsewhere "
                f"nothing comes after a deletion, or a part of the client never left"
            )
        if request.rejoin and not 0 < request.round < request.rejoin:
            raise ValueError(f"{path}.rejoin = {request.rejoin} must be after its own round = {request.round}")
        if len(set(request.records)) < len(request.records):
            raise ValueError(f"{path}.records = {list(request.records)} names a record twice")


@dataclass(frozen=True)
class Setting:
    """What one training, its deletions and their eavesdropper are: a variant, or the scenario where it has none.

    Attributes:
        variant: its name; empty where the scenario has no variants.
    """

    variant: str
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    deletion: DeletionConfig
    adversary: AdversaryConfig

    @property
    def trunk(self) -> tuple[Any, ...]:
        """What decides about training and requests: settings in which it is equal share them."""
        return self.data, self.model, self.training, self.deletion, self.adversary.sees


class EvaluationConfig(Frozen):
    """How thoroughly unlearning is measured against retraining.

    Attributes:
        retrainings: hidden retrainings of every request; from two on, how much they differ among themselves is
            reported, and from three on a table compares the methods; 0: what needs one is not measured, as befits a
            large network that is attacked, whose retrainings take most of the time.
        relearning: ordinary rounds, the forgotten records back in, after which a model that has not learned them again
            is given up; 0: not tried; fedavg and fedsgd without shards only.
    """

    retrainings: int = Field(default=1, ge=0)
    relearning: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _relearning_is_compared(self) -> "EvaluationConfig":
        if self.relearning and not self.retrainings:
            raise ValueError(
                f"relearning = {self.relearning} is compared with a model that never saw the records; "
                f"it needs retrainings = 1 or more, and retrainings = 0 is given"
            )
        return self


class PrivacyConfig(Frozen):
    """Differential privacy's accounting.

    Attributes:
        budget: epsilon that may be spent on a unit (a record or a client, as the defense has it); a request whose
            processing would pass it is refused; 0: no limit.
        accountant: rdp and prv are Opacus', pld is dp-accounting's; each gives an upper bound, and tightest the least
            of rdp and pld.
        sampling_is_secret: whether the accountant may count on nobody but the server knowing which clients took part.
        secure_noise: noise from the operating system instead of the seed: the run can't be repeated.
        secret: whether a secret decides about everything random beside the seed: ``random``, drawn for this run;
            ``given``, by the environment variable PALIMPSEST_SECRET or here; empty: none. Of a loaded scenario it says
            where the secret came from.
    """

    delta: float = Field(default=1e-5, gt=0, lt=1)
    budget: NotNegative = 0.0
    accountant: Literal["tightest", "rdp", "pld", "prv"] = "tightest"
    sampling_is_secret: bool = False
    secure_noise: bool = False
    secret: Literal["", "random", "given"] = ""


class FederationConfig(Frozen):
    """Attributes of the federation.

    Attributes:
        secure_aggregation: declared: the server sees sums over clients only, and methods that need a client's own
            message are refused.
    """

    secure_aggregation: bool = False
