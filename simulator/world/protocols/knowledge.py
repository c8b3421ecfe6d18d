"""What the eavesdropper knows beside the models: written by the run, granted by the scenario, read by attacks.

``knowledge.json`` and ``knowledge.safetensors`` beside a transcript hold all of it; ``challenge.safetensors`` is there
where the scenario asks which of given records were deleted. No ground truth is among it.
"""

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.files import write_atomically
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.protocols.alignment import Releases, aligned
from palimpsest.simulator.world.protocols.messages import Messages
from palimpsest.simulator.world.protocols.transcript import Transcript
from palimpsest.simulator.world.records import Array, Case, Challenge
from palimpsest.simulator.world.specs import Frozen, ModelSpec, Schema

FIELDS: dict[str, frozenset[str]] = {
    "public sample": frozenset({"x", "y", "box_low", "box_high", "mean"}),
    "lambda": frozenset({"regularisation"}),
    "n": frozenset({"n"}),
    "unlearning rule": frozenset({"operator", "step", "unlearning"}),
    "training": frozenset({"algorithm", "training"}),
    "challenge": frozenset({"challenge"}),
    "seeds": frozenset({"seed"}),
}
"""What an attack that declares a need may read, of ``PublicKnowledge``, ``Facts`` and the model's spec.

Architecture and form of the data are everybody's. ``classes`` is no knowledge: the data must have some.
"""

_CHALLENGE = "challenge.safetensors"
_KEPT = 256
"""Releases held in memory at once."""


class CaseView(Frozen):
    """Which releases enclose one deletion, by id, and what else was granted about it.

    Attributes:
        before: the last release before the unlearning; None where the brackets are not known: the eavesdropper then
            takes the last two releases that it heard.
        after: the last release.
        size: number of deleted records.
        labels: of the deleted records, ascending, where granted.
        clients: who asked, where granted.
    """

    before: int | None
    after: int
    size: int
    labels: tuple[float, ...] | None = None
    clients: tuple[int, ...] | None = None


class Facts(Frozen):
    """The public facts of one arm.

    Attributes:
        schema_: public form of the data.
        model: architecture, loss and lambda (computed with the adversary's idea of n where the scenario gave l2).
        n: the adversary's idea of the number of training records before any deletion.
        algorithm: training algorithm.
        training: its public hyper-parameters (rounds, learning rate, ...).
        unlearning: the unlearning rule with its public step size, as ``{"method": ..., ...}``.
        operator: what one unlearning leaves in the parameters, public knowledge of the rule: ``identity`` after a
            gradient step (D = step * gradient), ``hessian`` at an optimum.
        step: the size of that gradient step; 1 where there is none.
        preprocessing: statistics of the public sample that standardised the columns.
        granted: what was granted beyond the default (labels, client, seeds).
        clients: how many there are; with ``clients_per_round`` it tells how many records stand behind a round.
        seed: the scenario's seed, where ``seeds`` is granted.
        round_to: significant bits to which the transcript's parameters were rounded before they were written; 0: exact.
        cases: the deletions.
    """

    format: int = 1
    scenario: str
    schema_: Schema
    model: ModelSpec
    n: int
    algorithm: str
    training: dict[str, Any]
    unlearning: dict[str, Any]
    operator: str
    step: float
    preprocessing: dict[str, list[float]]
    granted: tuple[str, ...] = ()
    clients: int | None = None
    seed: int | None = None
    round_to: int = 0
    cases: tuple[CaseView, ...] = ()


@dataclass(frozen=True)
class PublicKnowledge:
    """Facts and the public sample.

    Attributes:
        facts: see ``Facts``.
        x: ``[m, d]`` float64 public records, disjoint from everything else.
        y: ``[m]`` int64 classes or float64 targets.
        box_low, box_high: ``[d]`` float64 range of each input column.
        challenge: records of which the adversary is to say whether they were deleted, where it is asked that.
    """

    facts: Facts
    x: Array
    y: Array
    box_low: Array
    box_high: Array
    challenge: Challenge | None = None

    @property
    def model(self) -> Model:
        """The architecture, ready to evaluate."""
        return model_of(self.facts.model)

    @cached_property
    def mean(self) -> Array:
        """``[d]`` the public mean, the best guess without any model."""
        average: Array = self.x.mean(axis=0)
        return average

    def save(self, directory: Path) -> None:
        """Write ``knowledge.json``, ``knowledge.safetensors`` and, where there is one, ``challenge.safetensors``."""
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {"x": self.x, "y": self.y, "box_low": self.box_low, "box_high": self.box_high}
        packed = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
        write_atomically(directory / "knowledge.safetensors", packed)
        if self.challenge is not None:
            asked = {"x": np.ascontiguousarray(self.challenge.x), "y": np.ascontiguousarray(self.challenge.y)}
            write_atomically(directory / _CHALLENGE, save(asked))
        write_atomically(directory / "knowledge.json", self.facts.model_dump_json(indent=1))

    @classmethod
    def open(cls, path: Path) -> "PublicKnowledge":
        """Read a ``knowledge.json`` and the arrays beside it.

        Raises:
            TranscriptError: a file is missing or broken.
        """
        asked = path.with_name(_CHALLENGE)
        try:
            facts = Facts.model_validate(json.loads(path.read_text()))
            arrays = load_file(path.with_suffix(".safetensors"))
            challenge = Challenge(**load_file(asked)) if asked.is_file() else None
        except (OSError, ValueError) as error:
            raise TranscriptError(f"public knowledge {path} cannot be read: {error}") from None
        return cls(facts, arrays["x"], arrays["y"], arrays["box_low"], arrays["box_high"], challenge)


def cases_of(transcript: Transcript, facts: Facts) -> list[Case]:
    """Put each deletion's models together.

    Raises:
        TranscriptError: a release is missing or broken.
    """
    cases, messages = [], Messages(transcript.directory)
    load = lru_cache(maxsize=_KEPT)(transcript.load)  # many cases begin at one release
    for index, view in enumerate(facts.cases):
        before = transcript.heard[view.after].parent if view.before is None else view.before
        if before is None:
            raise TranscriptError(f"deletion {index} ends in release {view.after}, which has none before it")
        chain = _between(transcript, before, view.after)
        trunk, branch = ([], []) if view.before is None else aligned(transcript, before, [*chain, view.after])
        cases.append(
            Case(
                index=index,
                size=view.size,
                before=load(before),
                after=load(view.after),
                between=Releases(load, chain),
                trunk=Releases(load, trunk),
                branch=Releases(load, branch),
                labels=view.labels,
                clients=view.clients,
                messages=messages.of_branch(transcript.heard[view.after].branch, transcript.heard[before].round or 0),
            )
        )
    return cases


def _between(transcript: Transcript, before: int, after: int) -> list[int]:
    """Ids on the way from ``before`` to ``after``, both ends left out, oldest first."""
    chain: list[int] = []
    number = transcript.heard[after].parent
    while number is not None and number != before:
        chain.append(number)
        number = transcript.heard[number].parent
    return chain[::-1]
