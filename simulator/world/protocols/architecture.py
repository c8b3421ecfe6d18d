"""Whether the public facts of a transcript make sense by themselves, and what its releases must then look like."""

from functools import lru_cache
from math import prod
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.models.card import called
from palimpsest.simulator.world.models.kinds import is_known, model_card, package_of
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.protocols.strict import said, shown
from palimpsest.simulator.world.specs import Frozen, ModelSpec, Schema

Algorithm = Literal["fedavg", "fedsgd", "lbfgs", "closed-form"]

MOST_NUMBERS = 1 << 26
"""Numbers that one model, one feature map or one answer may have."""

_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(ge=1)]


class _Sampling(Frozen):
    scheme: Literal["poisson"] = "poisson"
    rate: float = Field(gt=0, le=1)


class _Stop(Frozen):
    gradient_norm: _Positive = 1e-6
    max_evaluations: _Count = 2000


class _Training(Frozen):
    """Public hyper-parameters that attacks read; others may stand beside them."""

    model_config = ConfigDict(frozen=True, extra="allow")

    clients_per_round: int = Field(default=0, ge=0)
    sampling: _Sampling | None = None
    local_epochs: _Count = 1
    local_steps: int = Field(default=0, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    stop: _Stop = _Stop()


class _BySteps(_Training):
    learning_rate: _Positive


class _ByBatches(_BySteps):
    batch_size: _Count


_TRAININGS: dict[str, TypeAdapter[_Training]] = {
    "fedavg": TypeAdapter(_ByBatches),
    "fedsgd": TypeAdapter(_BySteps),
    "lbfgs": TypeAdapter(_Training),
    "closed-form": TypeAdapter(_Training),
}


def training_of(where: str, algorithm: str, given: dict[str, Any]) -> dict[str, Any]:
    """Check the public hyper-parameters of a training, and fill in those that are left out.

    Raises:
        TranscriptError: one that the algorithm needs is missing, or out of its range.
    """
    try:
        checked = _TRAININGS[algorithm].validate_python(given)
    except ValidationError as error:
        raise TranscriptError(f"{where}: training by {algorithm} {said(error)}") from None
    return checked.model_dump(mode="json")


def check_schema(where: str, schema: Schema, model: ModelSpec) -> None:
    """Compare the form of the data with itself and with the model's.

    Raises:
        TranscriptError: they disagree, or are no form of data.
    """
    if len(schema.shape) not in (1, 3) or min(schema.shape) < 1:
        raise TranscriptError(
            f"{where}: schema_.shape = {list(schema.shape)}; it must be [columns] or [channels, height, width]"
        )
    least = 1 if schema.task == "regression" else 2
    if schema.outputs < least or (schema.task == "regression" and schema.outputs > 1):
        wanted = "1 for regression" if schema.task == "regression" else "the number of classes, at least 2"
        raise TranscriptError(f"{where}: schema_.outputs = {schema.outputs}; it must be {wanted}")
    for name, count in (("class_names", schema.outputs), ("feature_names", schema.width)):
        given = len(getattr(schema, name))
        if given not in (0, count):
            raise TranscriptError(f"{where}: schema_.{name} has {given} names; it must have {count} or none")
    for name in ("task", "shape", "outputs"):
        ours, theirs = getattr(schema, name), getattr(model, name)
        if ours != theirs:
            raise TranscriptError(f"{where}: model.{name} = {theirs} and schema_.{name} = {ours}; they must be equal")


@lru_cache(maxsize=16)
def shapes_of(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's parameters, by name; takes no memory for them.

    Raises:
        TranscriptError: there is no such model, or it is larger than ``MOST_NUMBERS``.
    """
    features, plain = spec.features, spec
    if features is not None:
        width = prod(spec.shape)
        if features.dimension < 1 or features.bandwidth <= 0 or features.seed < 0:
            raise TranscriptError(
                "the model's features must have a dimension of 1 at least, a bandwidth above 0 and a seed of 0 at least"
            )
        if features.dimension * width > MOST_NUMBERS:
            raise TranscriptError(f"the model's features take {features.dimension * width} numbers; {_AT_MOST}")
        plain = spec.model_copy(update={"features": None, "shape": (features.dimension,)})
    try:
        with torch.device("meta"):
            shapes = _shapes(plain)
    except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError) as error:
        if is_known(spec.kind) and package_of(spec.kind):
            return dict(model_of(spec).shapes)  # another package's module may not know how to be built without memory
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TranscriptError(f"no model {shown(spec.kind)} can be built as it is described: {first}") from None
    size = sum(prod(shape) for shape in shapes.values())
    if size > MOST_NUMBERS:
        raise TranscriptError(f"the model {spec.kind} as it is described has {size} parameters; {_AT_MOST}")
    return shapes


def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's parameters, on the device on which modules are made."""
    card = model_card(spec.kind)
    if card.features is not None:
        return dict(Model(spec, "meta").shapes)
    form = Schema(name="", task=spec.task, shape=spec.shape, outputs=spec.outputs)
    module = called(card.build)(form, card.options.model_validate(spec.options.root))
    return {name: tuple(p.shape) for name, p in module.named_parameters() if p.requires_grad}


_AT_MOST = f"at most {MOST_NUMBERS} are read"
