"""Which records and how many clients suit a model: any of the table of models can be measured."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.card import Loss
from palimpsest.simulator.world.models.kinds import model_card
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.specs import ModelKind, ModelSpec

GREY, COLOUR, TABLE = (1, 28, 28), (3, 32, 32), (784,)
OUTPUTS = 10

SHAPES: Mapping[str, tuple[int, ...]] = {"convnet": COLOUR, "vit-tiny": COLOUR, "resnet18": COLOUR}
"""Of one record, by the model that it suits. Any other model has the first of ``GREY``, ``COLOUR`` and ``TABLE`` that
it can be built for."""

SIZES = ((1000, 1000), (1000, 100), (100, 100))
"""(population, cohort) of models whose gradients are written out; ``--size`` and the table write COHORT/POPULATION."""
FEWER, FEWEST = ((100, 100),), ((4, 4),)
"""The same of others, and of those with more than ``LARGE`` parameters."""
LARGE = 10**6


@lru_cache
def spec_of(kind: ModelKind) -> ModelSpec:
    """The model with its defaults, on records that suit it.

    Raises:
        ModelError: there is no such model, or it sorts nothing into classes, or cannot be built.
    """
    if "classification" not in (tasks := model_card(kind).tasks):
        raise ModelError(f"the model {kind!r} is for {' and '.join(tasks)}; what is measured are classifiers")
    refused: ModelError | None = None
    for shape in [SHAPES[kind]] if kind in SHAPES else [GREY, COLOUR, TABLE]:
        spec = ModelSpec(kind=kind, task="classification", shape=shape, outputs=OUTPUTS, regularisation=0.0)
        try:
            model_of(spec)
        except ModelError as error:
            refused = refused or error
        else:
            return spec
    raise refused or ModelError(f"the model {kind!r} cannot be built")


def sizes_of(kind: ModelKind) -> tuple[tuple[int, int], ...]:
    """(population, cohort) of each piece of work, such that rounds take seconds and not minutes."""
    model = model_of(spec_of(kind))
    if model.size > LARGE:
        return FEWEST
    return FEWER if model.written is None else SIZES


def loss_of(model: Model) -> Callable[[Tensor, Tensor], Any]:
    """The mean loss of scores ``[b, outputs]`` and classes ``[b]``, as who writes a loop by hand has it."""
    return _LOSSES[model.card.loss]


def _squared_error(scores: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (_one_hot(scores, y) - scores).square().sum(-1).mean()


def _squared_hinge(scores: Tensor, y: Tensor) -> Tensor:
    sign = 2.0 * _one_hot(scores, y) - 1.0
    return 0.5 * (1.0 - sign * scores).clamp(min=0.0).square().sum(-1).mean()


def _one_hot(scores: Tensor, y: Tensor) -> Tensor:
    classes = torch.arange(scores.shape[-1], device=scores.device)
    return (y.unsqueeze(-1) == classes).to(scores.dtype)


_LOSSES: Mapping[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": cross_entropy,
    "squared error": _squared_error,
    "squared hinge": _squared_hinge,
}
