"""Parameters from elsewhere, and the model of the table that they are said to be of."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError

from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.kinds import model_card
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelOptions, ModelSpec, Schema


def spec_for(kind: str, options: Mapping[str, Any], schema: Schema, regularisation: float = 0.0) -> ModelSpec:
    """The model of the table for data of this form, float32.

    Args:
        kind: a name in the table of models.
        options: its hyper-parameters; those that are not there have their defaults.
        schema: form of the data.
        regularisation: lambda of the objective that it was trained by.

    Raises:
        ModelError: there is no such model or option, or it is none for such data.
    """
    card = model_card(kind)
    if schema.task not in card.tasks:
        raise ModelError(f"the model {kind!r} is for {' and '.join(card.tasks)}, and the public y says {schema.task}")
    if card.images_only and not schema.is_image:
        raise ModelError(f"the model {kind!r} is for images, and the public x is a table of {schema.width} columns")
    try:
        checked = card.options.model_validate(dict(options)).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, known = ".".join(map(str, first["loc"])), ", ".join(card.options.model_fields) or "none"
        raise ModelError(f"the model {kind!r} refuses its option {name!r}: {first['msg']}; it has {known}") from None
    return ModelSpec(
        kind=kind,
        task=schema.task,
        shape=schema.shape,
        outputs=schema.outputs,
        regularisation=regularisation,
        options=ModelOptions(checked),
    )


def fitted(spec: ModelSpec, arrays: Mapping[str, Array], where: str) -> Params:
    """The parameters of a model among arrays, in its type and order; its buffers may stand beside them.

    Raises:
        ModelError: a name is missing or unknown, a shape is another, or a number is not finite.
    """
    model = model_of(spec)
    described = f"the model {spec.kind!r} on records {list(spec.shape)} with {spec.outputs} outputs"
    missing = [name for name in model.names if name not in arrays]
    if missing:
        raise ModelError(
            f"{where} has no parameter {missing[0]!r}, which {described} has: it holds {_few(arrays)}, and must hold "
            f"{_few(model.shapes)}"
        )
    beside = model.module(model.init(generator(0, "names"))).state_dict()
    known = {name.removeprefix("body.") for name in beside}
    unknown = [name for name in arrays if name not in known]
    if unknown:
        raise ModelError(f"{where} holds {unknown[0]!r}, which {described} does not have: {_few(model.shapes)}")
    for name, shape in model.shapes.items():
        if arrays[name].shape != shape:
            raise ModelError(
                f"{where}: {name} has shape {list(arrays[name].shape)}, and in {described} it has {list(shape)}; give "
                f"the options that it was built with, and public records of the form that it reads"
            )
        if not np.isfinite(arrays[name]).all():
            raise ModelError(f"{where}: {name} holds a NaN or an infinity; its training has diverged")
    return {name: np.ascontiguousarray(arrays[name]).astype(spec.dtype) for name in model.names}


def _few(names: Mapping[str, Any]) -> str:
    shown = ", ".join(list(names)[:6]) or "nothing"
    return f"{shown}, ..." if len(names) > 6 else shown
