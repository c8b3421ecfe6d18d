"""What the eavesdropper knows beside the models: written by the run, granted by the scenario, read by attacks.

``knowledge.json`` and ``knowledge.safetensors`` beside a transcript hold all of it; ``challenge.safetensors`` is there
where the scenario asks which of given records were deleted, ``rest.safetensors`` where it grants all other records.
No ground truth is among it.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field, ValidationError
from safetensors.numpy import save

from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.files import write_atomically
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.protocols.alignment import Releases, aligned, located, preceding
from palimpsest.simulator.world.protocols.architecture import (
    MOST_NUMBERS,
    Algorithm,
    check_schema,
    shapes_of,
    training_of,
)
from palimpsest.simulator.world.protocols.messages import Messages
from palimpsest.simulator.world.protocols.strict import (
    check_form,
    check_plain,
    form_of,
    read_arrays,
    read_file,
    said,
)
from palimpsest.simulator.world.protocols.transcript import Transcript
from palimpsest.simulator.world.records import Array, Case, Challenge, Params
from palimpsest.simulator.world.specs import Frozen, ModelSpec, Schema

FIELDS: dict[str, frozenset[str]] = {
    "public sample": frozenset({"x", "y", "box_low", "box_high", "mean"}),
    "lambda": frozenset({"regularisation"}),
    "n": frozenset({"n"}),
    "unlearning rule": frozenset({"operator", "step", "unlearning"}),
    "training": frozenset({"algorithm", "training"}),
    "challenge": frozenset({"challenge"}),
    "seeds": frozenset({"seed"}),
    "defense": frozenset({"defense"}),
    "rest": frozenset({"rest"}),
    "rest if granted": frozenset({"rest"}),
}
"""What an attack that declares a need may read, of ``PublicKnowledge``, ``Facts`` and the model's spec.

Architecture and form of the data are everybody's. ``classes`` is no knowledge: the data must have some.
"""

Operator: TypeAlias = Literal["identity", "hessian", "unknown"]
"""What one unlearning leaves in the parameters."""

_CHALLENGE, _REST = "challenge.safetensors", "rest.safetensors"
_KEPT = 256
"""Releases held in memory at once."""
_MOST = 1 << 24
"""Bytes of ``knowledge.json``, at most."""
_Number = Annotated[int, Field(ge=0)]
_Count = Annotated[int, Field(ge=1)]


class CaseView(Frozen):
    """Which releases enclose one deletion, by id, and what else was granted about it.

    Attributes:
        before: the last release before the unlearning; None where that is not known: it is then looked for in the
            models.
        after: the last release.
        size: number of deleted records.
        labels: of the deleted records, ascending, where granted.
        clients: who asked, where granted.
    """

    before: _Number | None
    after: _Number
    size: _Count
    labels: tuple[float, ...] | None = None
    clients: tuple[_Number, ...] | None = None


class Facts(Frozen):
    """The public facts of one arm.

    Attributes:
        format: version of ``knowledge.json`` and of the transcript beside it.
        schema_: public form of the data.
        model: architecture, loss and lambda (computed with the adversary's idea of n where the scenario gave l2).
        n: the adversary's idea of the number of training records before any deletion.
        algorithm: training algorithm.
        training: its public hyper-parameters (rounds, learning rate, ...).
        unlearning: the unlearning rule with its public step size, as ``{"method": ..., ...}``.
        operator: what one unlearning leaves in the parameters, public knowledge of the rule: ``identity`` after a
            gradient step (D = step * gradient), ``hessian`` at an optimum, ``unknown`` where the models are far from
            one and no step is known: attacks choose by evidence.
        step: the size of that gradient step; 1 where there is none.
        preprocessing: statistics of the public sample that standardised the columns.
        granted: what was granted beyond the default (labels, client, seeds, rest).
        clients: how many there are; with ``clients_per_round`` it tells how many records stand behind a round.
        seed: the scenario's seed, where ``seeds`` is granted.
        round_to: significant bits to which the transcript's parameters were rounded before they were written; 0: exact.
        defense: each defense's kind and hyper-parameters (clip, noise multiplier), in the order in which they act.
        cases: the deletions.
    """

    format: Literal[1] = 1
    scenario: str
    schema_: Schema
    model: ModelSpec
    n: _Count
    algorithm: Algorithm
    training: dict[str, Any]
    unlearning: dict[str, Any]
    operator: Operator
    step: float = Field(gt=0)
    preprocessing: dict[str, list[float]]
    granted: tuple[str, ...] = ()
    clients: _Count | None = None
    seed: _Number | None = None
    round_to: _Number = 0
    defense: tuple[dict[str, Any], ...] = ()
    cases: tuple[CaseView, ...] = ()


@dataclass(frozen=True)
class KnownRecords:
    """Private records that the adversary knows: all that were trained on and that no deletion takes away, shuffled.

    Attributes:
        x: ``[n, d]`` float64 records.
        y: ``[n]`` classes or targets.
    """

    x: Array
    y: Array


@dataclass(frozen=True)
class PublicKnowledge:
    """Facts and the public sample.

    Attributes:
        facts: see ``Facts``.
        x: ``[m, d]`` float64 public records, disjoint from everything else.
        y: ``[m]`` int64 classes or float64 targets.
        box_low, box_high: ``[d]`` float64 range of each input column.
        challenge: records of which the adversary is to say whether they were deleted, where it is asked that.
        rest: all records that no deletion takes away, where ``rest`` is granted.
    """

    facts: Facts
    x: Array
    y: Array
    box_low: Array
    box_high: Array
    challenge: Challenge | None = None
    rest: KnownRecords | None = None

    @property
    def model(self) -> Model:
        """The architecture, ready to evaluate."""
        return model_of(self.facts.model)

    @cached_property
    def mean(self) -> Array:
        """``[d]`` the public mean, the best guess without any model."""
        average: Array = self.x.mean(axis=0)
        return average

    def under_rule(self, operator: Operator, step: float) -> "PublicKnowledge":
        """The same with another rule of unlearning."""
        other = copy(self)
        object.__setattr__(other, "facts", self.facts.model_copy(update={"operator": operator, "step": step}))
        return other

    def save(self, directory: Path) -> None:
        """Write ``knowledge.json``, ``knowledge.safetensors`` and, where there are any, challenge and rest."""
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {"x": self.x, "y": self.y, "box_low": self.box_low, "box_high": self.box_high}
        packed = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
        write_atomically(directory / "knowledge.safetensors", packed)
        for name, records in ((_CHALLENGE, self.challenge), (_REST, self.rest)):
            if records is not None:
                given = {"x": np.ascontiguousarray(records.x), "y": np.ascontiguousarray(records.y)}
                write_atomically(directory / name, save(given))
        write_atomically(directory / "knowledge.json", self.facts.model_dump_json(indent=1))

    @classmethod
    def open(cls, path: Path) -> "PublicKnowledge":
        """Read a ``knowledge.json`` and the arrays beside it.

        Raises:
            TranscriptError: a file is missing or broken.
        """
        facts = _facts(path)
        values = _records(path.with_suffix(".safetensors"), facts.schema_, ("box_low", "box_high"))
        challenge, rest = (
            _records(place, facts.schema_) if place.is_symlink() or place.exists() else None
            for place in (path.with_name(_CHALLENGE), path.with_name(_REST))
        )
        return cls(
            facts,
            **values,
            challenge=None if challenge is None else Challenge(**challenge),
            rest=None if rest is None else KnownRecords(**rest),
        )


def _facts(path: Path) -> Facts:
    """Read ``knowledge.json``, and compare what it says with itself.

    Raises:
        TranscriptError: it is missing, of another format, or contradicts itself.
    """
    where = f"public knowledge {path}"
    try:
        facts = Facts.model_validate_json(read_file(path.parent, path.name, _MOST))
    except ValidationError as error:
        raise TranscriptError(f"{where} {said(error)}") from None
    except TranscriptError as error:
        raise TranscriptError(f"public knowledge: {error}") from None
    check_plain(where, facts.model_dump())
    check_schema(where, facts.schema_, facts.model)
    for index, view in enumerate(facts.cases):
        _check_view(f"{where}: case {index}", view, facts.schema_)
    return facts.model_copy(update={"training": training_of(where, facts.algorithm, facts.training)})


def _check_view(where: str, view: CaseView, schema: Schema) -> None:
    """Raise TranscriptError where a case's size or labels cannot be."""
    if view.size * schema.width > MOST_NUMBERS:
        raise TranscriptError(f"{where} has size {view.size}; at most {MOST_NUMBERS // schema.width} records are read")
    if view.labels is None:
        return
    if len(view.labels) != view.size:
        raise TranscriptError(f"{where} has {len(view.labels)} labels and size {view.size}; they must be as many")
    if schema.task == "classification":
        for label in view.labels:
            if not 0 <= label < schema.outputs or label != int(label):
                raise TranscriptError(f"{where} has the label {label}; classes are 0 to {schema.outputs - 1}")


def _records(path: Path, schema: Schema, columns: tuple[str, ...] = ()) -> dict[str, Array]:
    """Read records ``x`` and ``y``, and for each of ``columns`` a number for each column of a record.

    Raises:
        TranscriptError: the file is missing, of another form than the data, or holds classes that there are not.
    """
    form = form_of(path.parent, path.name)
    count = form["y"][1][0] if "y" in form and form["y"][1] else 0
    if count < 1:
        raise TranscriptError(f"{path} holds no records: x must be [records, columns] and y [records]")
    wanted = dict.fromkeys(columns, (("float64",), (schema.width,)))
    records = {"x": (("float64",), (count, schema.width)), "y": (("int64", "float64"), (count,))}
    check_form(f"{path}", form, wanted | records)
    values = read_arrays(path.parent, path.name)
    if schema.task == "classification":
        wrong = values["y"][~np.isin(values["y"], np.arange(schema.outputs))]
        if len(wrong):
            raise TranscriptError(f"{path}: y holds {wrong[0].item()}; classes are 0 to {schema.outputs - 1}")
    return values


def cases_of(transcript: Transcript, facts: Facts) -> list[Case]:
    """Put each deletion's models together.

    Raises:
        TranscriptError: a release is missing, broken or no model of this architecture, or a case does not point to
            releases of which one comes after the other.
    """
    transcript.check(shapes_of(facts.model), facts.model.dtype)
    cases, messages = [], Messages(transcript.directory)
    messages.check(shapes_of(facts.model))
    load = lru_cache(maxsize=_KEPT)(transcript.load)  # many cases begin at one release
    for index, view in enumerate(facts.cases):
        before, chain = _bracket(transcript, index, view, load)
        trunk, branch = aligned(transcript, before, [*chain, view.after])
        cases.append(
            Case(
                index=index,
                size=view.size,
                before=load(before),
                after=load(view.after),
                between=Releases(load, chain),
                trunk=Releases(load, trunk),
                branch=Releases(load, branch),
                earlier=Releases(load, preceding(transcript, before, trunk)),
                stream=Releases(load, _unmarked(transcript, view)),
                labels=view.labels,
                clients=view.clients,
                messages=messages.of_branch(transcript.heard[view.after].branch, transcript.heard[before].round or 0),
            )
        )
    return cases


def _unmarked(transcript: Transcript, view: CaseView) -> list[int]:
    """Ids of all that was heard until a deletion was over, oldest first, where nobody says when it began."""
    return [line.id for line in transcript.until(view.after)] if view.before is None else []


def _bracket(
    transcript: Transcript, index: int, view: CaseView, load: Callable[[int], Params]
) -> tuple[int, list[int]]:
    """Return the last release before a deletion, and the ids on the way from there to its last one, oldest first.

    Raises:
        TranscriptError: there is no such release, or no such way.
    """
    heard = transcript.heard
    for name in ("before", "after"):
        number = getattr(view, name)
        if number is not None and number >= len(heard):
            raise TranscriptError(f"case {index} has {name} = {number}; there are {len(heard)} releases, from 0")
    parent, before = heard[view.after].parent, view.before
    if before is None:
        if parent is None:
            raise TranscriptError(f"deletion {index} ends in release {view.after}, which has none before it")
        stream = transcript.until(view.after)
        before = stream[located(stream, load)].id
    chain: list[int] = []
    while parent is not None and parent != before:
        chain.append(parent)
        parent = heard[parent].parent
    if parent is None:
        raise TranscriptError(
            f"case {index} ends in release {view.after}, whose parents do not lead to release {before}, where it begins"
        )
    return before, chain[::-1]
