"""What ``results.json`` says, schema version 1, as types: it is written and read through them.

A model keeps the keys that it was made from, in their order: what is written is byte for byte what was read, and a key
that was absent stays absent although its field then has a default.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ModelWrapValidatorHandler, PrivateAttr, model_validator

Number: TypeAlias = int | float
Interval: TypeAlias = tuple[Number, Number]
"""Lower and upper end of a 95 % interval."""
Measure: TypeAlias = JsonValue
"""A further figure that a method, a defense or an attack reports by a name of its own."""


class Entry(BaseModel):
    """A JSON object of ``results.json``: frozen, with its keys in the order in which they were given."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Measure] = Field(init=False)
    _keys: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _remember_keys(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if isinstance(data, Mapping):
            made._keys = tuple(data)
        return made

    def to_json(self) -> dict[str, Any]:
        """This entry as ``json`` writes it: the keys that were given, in their order."""
        return {key: _plain(getattr(self, key)) for key in self._keys}

    @property
    def measures(self) -> dict[str, Measure]:
        """The figures that have no field of their own."""
        return dict(self.__pydantic_extra__)


class Method(Entry):
    """An unlearning method and its hyper-parameters."""

    method: str
    coupling: str = ""


class Defense(Entry):
    """A defense and its hyper-parameters."""

    kind: str


class Data(Entry):
    """What was trained on; ``shape`` is that of one record, the counts are of clients and of records."""

    source: str = ""
    task: str = ""
    shape: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    clients: int = 0
    records: int = 0
    public: int = 0
    test: int = 0


class Deletion(Entry):
    """What one request deletes."""

    level: str = "record"
    records: int = 1


class Requests(Entry):
    """How many deletions were asked for, and how many were done."""

    made: int = 0
    completed: int = 0


class Utility(Entry):
    """What the models are worth on test data: medians over requests, in the unit of ``metric``."""

    metric: str = ""
    trained: Number | None = None
    unlearned: Number | None = None
    retrained: Number | None = None


class Forgetting(Entry):
    """Whether the server forgot: medians over requests; what was not measured is None."""

    exact: bool = False
    exact_for_adaptive_requests: bool | None = None
    retrainings: int | None = None
    forget_loss: Number | None = None
    forget_accuracy: Number | None = None
    distance_to_retrained: Number | None = None
    membership_valid: bool | None = None


class Cost(Entry):
    """What unlearning has cost beside retraining: seconds, bytes and client updates."""

    unlearning_seconds: Number | None = None
    retraining_seconds: Number | None = None
    rounds: int | None = None
    client_updates: int | None = None
    bytes_up: int | None = None
    bytes_down: int | None = None
    server_bytes_stored: int | None = None


class Bound(Entry):
    """How often an attack succeeded at one event, beside how often it can at most (``gamma``), both in [0, 1]."""

    event: str
    attack: str
    span: str
    n: int
    kappa: Number
    gamma: Number
    success: Number
    interval: Interval


class Spent(Entry):
    """Epsilon that units of privacy have spent."""

    max: Number
    median: Number


class BeforeAndAfter(Entry):
    """Epsilon before and after the deletion."""

    before: Spent
    after: Spent


class Privacy(Entry):
    """Differential privacy of an arm; ``epsilon_max`` is None where none was asked for."""

    unit: str = "record"
    epsilon_max: Number | None = None
    delta: Number | None = None
    accountant: str | None = None
    deleted: BeforeAndAfter | None = None
    retained: BeforeAndAfter | None = None
    bounds: tuple[Bound, ...] = ()


class AttackResult(Entry):
    """The figures of one attack; those that its kind of answer lacks are None, and others are in ``measures``."""

    kind: str
    n: int
    cases: int | None = None
    no_signal: int = 0
    cosine_median: Number | None = None
    cosine_p90: Number | None = None
    cosine_ci95: Interval | None = None
    cosine_centred_median: Number | None = None
    cosine_centred_p90: Number | None = None
    cosine_centred_ci95: Interval | None = None
    label_accuracy: Number | None = None
    top1_of_1000: Number | None = None
    class_accuracy: Number | None = None
    class_accuracy_ci95: Interval | None = None
    auc: Number | None = None
    auc_ci95: Interval | None = None
    tpr_at_1_percent: Number | None = None
    seconds: Number | None = None
    peak_memory_bytes: int | None = None
    queries: int | None = None


class ArmResult(Entry):
    """One arm: a way of unlearning under a defense with a seed, and all that was found of it."""

    arm: str
    variant: str = ""
    unlearning: Method
    defense: Defense
    seed: int
    data: Data = Data()
    deletion: Deletion = Deletion()
    conditions: dict[str, Measure] = {}
    requests: Requests = Requests()
    transcript_digest: str = ""
    utility: Utility = Utility()
    forgetting: Forgetting = Forgetting()
    attacks: dict[str, AttackResult] = {}
    privacy: Privacy = Privacy()
    notes: dict[str, Measure] = {}
    cost: Cost = Cost()
    verdict: str = ""


class RunResults(Entry):
    """Content of ``results.json``."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    schema_version: Literal[1] = Field(alias="schema")
    scenario: str = ""
    versions: dict[str, str] = {}
    machine: dict[str, Measure] = {}
    arms: tuple[ArmResult, ...]

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the content of ``results.json``.

        Raises:
            ValueError: it is no JSON, or does not follow schema version 1.
        """
        return cls.model_validate(json.loads(text))

    def to_json(self) -> dict[str, Any]:
        """The content of ``results.json``, with ``schema`` under its name there."""
        fields = {"schema": "schema_version"}
        return {key: _plain(getattr(self, fields.get(key, key))) for key in self._keys}

    def to_text(self) -> str:
        """The text of ``results.json``."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    """A value as ``json`` takes it."""
    if isinstance(value, Entry):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
