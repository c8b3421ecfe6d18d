"""What ``results.json`` says, schema version 2, as types: it is written and read through them.

A field without a default is one that is always written; where it is missing, the file is refused. Files of version 1
are read too (``upgrade``).
"""

import json
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from palimpsest.simulator.results.attack_results import AnyAttack
from palimpsest.simulator.results.entry import ArmEntry, FileName, FileNameOrNone, Interval, Measure, Number
from palimpsest.simulator.results.reading import RunFilesError as RunFilesError
from palimpsest.simulator.results.reading import checked, content_of
from palimpsest.simulator.results.requests import RequestResult
from palimpsest.simulator.results.seals import SEAL
from palimpsest.simulator.results.unlearning_results import Forgetting, Utility
from palimpsest.simulator.results.upgrade import VERSION, upgraded, upgraded_arm


class Method(ArmEntry):
    """An unlearning method and its hyper-parameters.

    Attributes:
        coupling: how a retraining's randomness relates to the first training's; empty where the method has none.
    """

    method: str
    coupling: str = ""


class Defense(ArmEntry):
    """A defense and its hyper-parameters."""

    kind: str


class Data(ArmEntry):
    """What was trained on; ``shape`` is that of one record, the counts are of clients and of records."""

    source: str
    task: str
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    clients: int
    records: int
    public: int
    test: int


class Deletion(ArmEntry):
    """What one request deletes: the level, and the most records that a request has.

    Attributes:
        pattern: ``sequential``: each request acts on the last release; else requests are alternatives of one model.
    """

    level: str
    records: int
    pattern: str


class Cost(ArmEntry):
    """What unlearning has cost beside retraining: seconds, bytes and client updates.

    What a retraining costs is None where none was asked for; speed-ups over retraining at equal utility also where
    utility is not measured, or where nothing was spent.
    """

    unlearning_seconds: Number
    retraining_seconds: Number | None = None
    retraining_client_updates: int | None = None
    retraining_client_seconds: Number | None = None
    rounds: int
    client_updates: int
    client_seconds: Number
    bytes_up: int
    bytes_down: int
    server_bytes_stored: int
    speed_up_seconds: Number | None = None
    speed_up_client_updates: Number | None = None


class Bound(ArmEntry):
    """How often an attack succeeded at one event, beside how often it can at most (``gamma``), both in [0, 1].

    Attributes:
        kappa_is: whether kappa is ``exact``, or an ``estimate`` from the best guess that was found, and gamma with it.
            Runs that do not say estimated it for all events but ``top1``.
    """

    event: str
    attack: str
    span: str
    n: int
    kappa: Number
    kappa_is: Literal["exact", "estimate"] | None = None
    gamma: Number
    success: Number
    interval: Interval

    @property
    def estimated(self) -> bool:
        """Whether gamma is no certain bound."""
        return (self.kappa_is or ("exact" if self.event == "top1" else "estimate")) == "estimate"


class Spent(ArmEntry):
    """Epsilon that units of privacy have spent."""

    max: Number
    median: Number


class BeforeAndAfter(ArmEntry):
    """Epsilon before and after the deletion; None where no unit was left to spend it, or one spent without limit."""

    before: Spent | None = None
    after: Spent | None = None


class Privacy(ArmEntry):
    """Differential privacy of an arm.

    ``epsilon_max`` is None where none was asked for, and so are the accountant and what was spent; it is None too where
    noise was drawn twice, which protects nobody (the accountant is said then). There are no bounds
    where no request was completed, or where the adversary is granted labels or clients.
    """

    unit: str
    epsilon_max: Number | None
    delta: Number
    accountant: str | None = None
    deleted: BeforeAndAfter | None = None
    retained: BeforeAndAfter | None = None
    noise: str | None = None
    amplified_by_client_sampling: bool | None = None
    bounds: tuple[Bound, ...] = ()


class ArmResult(ArmEntry):
    """One arm: a way of unlearning under a defense with a seed, and all that was found of it.

    Attributes:
        variant: empty where the scenario has none.
        conditions: what the success of attacks depends on, by name; what does not apply is absent.
        requests_made: how many deletions were asked for.
        requests_completed: how many of them were done.
        requests: a row for each; runs of schema 1 have none.
        utility: None where no request was completed.
        attacks: by the attack's kind; empty where no request was completed.
        diverged: why the arm has no scores, and what to change; empty where it has. Its transcript is not kept.
        failed_attacks: of each attack that gave no answer, why.
        notes: what the method reported of itself.
        verdict: one sentence.
    """

    arm: FileName
    variant: FileNameOrNone
    unlearning: Method
    defense: Defense
    seed: int
    data: Data
    deletion: Deletion
    conditions: dict[str, Measure]
    requests_made: int
    requests_completed: int
    requests: tuple[RequestResult, ...]
    transcript_digest: str
    utility: Utility | None = None
    forgetting: Forgetting
    attacks: dict[str, AnyAttack]
    diverged: str = ""
    failed_attacks: dict[str, str] = Field(default_factory=dict)
    privacy: Privacy
    notes: dict[str, Measure]
    cost: Cost
    verdict: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an arm's file.

        Raises:
            RunFilesError: there is none, or it is broken.
        """
        content = content_of(path)
        return checked(cls, upgraded_arm({key: value for key, value in content.items() if key != SEAL}), path)

    @property
    def is_chain(self) -> bool:
        """Whether each request acted on the last release, and rows say how the model fared."""
        return self.deletion.pattern == "sequential" and bool(self.requests)

    def to_text(self) -> str:
        """The text of an arm's file."""
        return json.dumps(self.to_json(), allow_nan=False)


class Round(ArmEntry):
    """One model of an arm's server; a measure is None where it does not apply, and may be NaN.

    First the training; where requests are a chain, or there is but one, then the server's further life: unlearning,
    recovery, rounds between, and ordinary training after it.

    Attributes:
        round: rounds of training that the model has behind it; a retraining counts from 0 again.
        phase: what the server was doing: ``training``, ``between``, ``unlearning``, ``recovery`` or ``working``.
        step: rounds that the server has done by then, whatever was undone: the axis of the trajectory. Working models
            have that of the round before. Absent in runs of schema 1.
        request: number of the request that is being processed, from 1; None in training.
        epsilon: highest of any unit by now, leavers included.
    """

    model_config = ConfigDict(allow_inf_nan=True)

    round: int
    phase: str
    step: int | None = None
    request: int | None = None
    utility: float | None = None
    loss: float | None = None
    update_norm: float | None = None
    epsilon: float | None = None


class RunResults(ArmEntry):
    """Content of ``results.json``.

    Figures are attributes (``results.arms[0].cost.rounds``); ``results["arms"]`` is the same as the JSON says it.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    schema_version: Literal[2] = Field(alias="schema")
    scenario: str
    versions: dict[str, str]
    machine: dict[str, Measure]
    secret: Literal["random", "given"] | None = None
    arms: tuple[ArmResult, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``results.json``.

        Raises:
            RunFilesError: there is none, it is broken, or it has a version that is not read here.
        """
        if not os.path.lexists(path):
            raise RunFilesError(f"{path.parent} holds no finished run: it has no {path.name}")
        content = content_of(path)
        if content.get("schema") not in range(1, VERSION + 1):
            given = f"schema {content.get('schema')!r}"
            raise RunFilesError(f"{path} has {given}; this version reads schemas 1 to {VERSION}")
        return checked(cls, upgraded(content), path)

    def with_arms(self, arms: tuple[ArmResult, ...]) -> Self:
        """The same with these arms."""
        return type(self).model_validate({**self.to_json(), "arms": [arm.to_json() for arm in arms]})

    def __getitem__(self, key: str) -> Any:
        """What the JSON says under a key."""
        return self.to_json()[key]

    def to_text(self) -> str:
        """The text of ``results.json``."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False)
