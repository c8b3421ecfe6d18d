"""How large a model would be, before it takes any memory."""

from functools import lru_cache

import torch

from palimpsest.simulator.world.models.card import called
from palimpsest.simulator.world.models.kinds import CARDS, model_card
from palimpsest.simulator.world.specs import ModelSpec, Schema

_BEYOND = 2**63
"""Of what has more numbers than can be counted."""


@lru_cache(maxsize=64)
def bytes_of(spec: ModelSpec) -> int:
    """Bytes of a model's parameters and of the fixed features in front of them; nothing is allocated.

    0 of a model of another package, whose builder may do anything.
    """
    if spec.kind not in CARDS:
        return 0
    card, width = model_card(spec.kind), 8 if spec.dtype == "float64" else 4
    options = card.options.model_validate(spec.options.root)
    count, shape = 0, spec.shape
    if spec.features is not None:
        inputs = 1
        for side in spec.shape:
            inputs *= side
        count, shape = spec.features.dimension * (inputs + 1), (spec.features.dimension,)
    elif card.features is not None:
        shape = (options.model_dump().get("dimension", 1),)
    form = Schema(name="", task=spec.task, shape=shape, outputs=spec.outputs)
    try:
        with torch.device("meta"):
            body = called(card.build)(form, options)
            count += sum(part.numel() for part in body.parameters())
    except RuntimeError:  # more than can be counted
        return _BEYOND
    return int(min(count * width, _BEYOND))
