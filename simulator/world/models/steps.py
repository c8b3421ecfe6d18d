"""One step of local training of many models at once, by the optimizer that a recipe names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palimpsest.simulator.world.models.gradients import Outer, onto
from palimpsest.simulator.world.models.layers import Params
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Optimizer, Recipe

BETAS, EPS = (0.9, 0.999), 1e-8
"""Of adam and adamw, as in torch."""

Memory = dict[tuple[str, str], Tensor]
"""``[W, ...]`` what an optimizer keeps from step to step, by what it is and the parameter's name."""


@dataclass(frozen=True)
class OptimizerStep:
    """What one step has beside parameters and gradients.

    Attributes:
        memory: changed in place.
        pulls: name -> ``[W, ...]`` what is added to the gradients in every step; empty: nothing.
        taken: ``[W]`` steps that each model has taken, this one included.
    """

    memory: Memory
    pulls: Mapping[str, Tensor]
    taken: Array


def pulls_of(starts: Params, recipe: Recipe, shifts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a recipe adds to the gradients in every step, but for the part that the parameters themselves make.

    The proximal term's gradient is mu theta - mu start; the first part is added where the step is taken.

    Args:
        starts: name -> ``[W, ...]`` the models at the beginning.
        recipe: of the training.
        shifts: name -> ``[W, ...]`` given by the server; empty: nothing.
    """
    pulls = {name: value.clone() for name, value in shifts.items()}
    if recipe.proximal:
        for name, start in starts.items():
            anchor = start * -recipe.proximal
            pulls[name] = pulls[name] + anchor if name in pulls else anchor
    return pulls


def memory_of(params: Params, recipe: Recipe) -> Memory:
    """An empty memory of the recipe's optimizer."""
    kinds = ["velocity"] if recipe.momentum else []
    kinds = kinds if recipe.optimizer == "sgd" else ["first", "second"]
    return {(kind, name): torch.zeros_like(value) for kind in kinds for name, value in params.items()}


def descend(params: Params, slopes: Mapping[str, Tensor | Outer], step: OptimizerStep, recipe: Recipe) -> None:
    """Take one step in place, as torch.optim takes it."""
    _STEPS[recipe.optimizer](params, slopes, step, recipe)


def _sgd(params: Params, slopes: Mapping[str, Tensor | Outer], step: OptimizerStep, recipe: Recipe) -> None:
    rate, decay = recipe.learning_rate, recipe.l2 + recipe.proximal
    for name, value in params.items():
        if not recipe.momentum:
            onto(value, 1.0 - rate * decay, slopes[name], -rate)
            if step.pulls:
                value.add_(step.pulls[name], alpha=-rate)
            continue
        velocity = step.memory["velocity", name]
        onto(velocity, recipe.momentum, slopes[name], 1.0)
        if decay:
            velocity.add_(value, alpha=decay)
        if step.pulls:
            velocity.add_(step.pulls[name])
        value.add_(velocity, alpha=-rate)


def _adam(params: Params, slopes: Mapping[str, Tensor | Outer], step: OptimizerStep, recipe: Recipe) -> None:
    decoupled, rate = recipe.optimizer == "adamw", recipe.learning_rate
    decay = recipe.proximal + (0.0 if decoupled else recipe.l2)
    for name, value in params.items():
        slope = torch.zeros_like(value)
        onto(slope, 0.0, slopes[name], 1.0)
        if decay:
            slope.add_(value, alpha=decay)
        if step.pulls:
            slope.add_(step.pulls[name])
        if decoupled and recipe.l2:
            value.mul_(1.0 - rate * recipe.l2)
        moments = [step.memory[kind, name] for kind in ("first", "second")]
        moments[0].mul_(BETAS[0]).add_(slope, alpha=1.0 - BETAS[0])
        moments[1].mul_(BETAS[1]).addcmul_(slope, slope, value=1.0 - BETAS[1])
        mean, square = (m / _unbiased(beta, step.taken, m) for m, beta in zip(moments, BETAS, strict=True))
        value.sub_(rate * mean / square.sqrt_().add_(EPS))


def _unbiased(beta: float, taken: Array, like: Tensor) -> Tensor:
    """``[W, 1, ...]`` 1 - beta^t: what a moment that began at 0 lacks after t steps."""
    lack = 1.0 - beta ** np.maximum(taken, 1).astype(np.float64)
    return torch.from_numpy(lack).to(like.device, like.dtype).view(-1, *[1] * (like.dim() - 1))


_STEPS: Mapping[Optimizer, Callable[[Params, Mapping[str, Tensor | Outer], OptimizerStep, Recipe], None]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adam,
}
