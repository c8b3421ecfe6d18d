"""What written-out gradients are made of: layers of many models at once, forward and back.

A card's ``gradients(model, params, x, y, filled, count)``, with the arguments of ``gradients.gradients``, returns two
``Backward``: of linear layers ``[W, b, ...]``, and of convolutions ``[W, ..., places * b]``.
"""

from typing import TypeAlias

import torch
from torch import Tensor

from palimpsest.simulator.world.models.model import Model

Params = dict[str, Tensor]

Backward: TypeAlias = dict[str, tuple[Tensor, Tensor]]
"""By each layer's prefix minus the gradient of the losses by its outputs, and its inputs (patches of them)."""


def pull_of(model: Model, scores: Tensor, y: Tensor, filled: Tensor, count: Tensor) -> Tensor:
    """Minus the gradient of the mean loss by the scores, ``[W, b, Q]``."""
    return torch.where(filled.unsqueeze(-1), model.residual(scores, y), 0.0).div_(count.view(-1, 1, 1))


def layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``[W, b, out]`` of linear layers on ``[W, b, in]``."""
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def through_relu(gradient: Tensor, output: Tensor) -> Tensor:
    """The gradient where the output is positive, 0 elsewhere; ``torch.where`` takes ten times as long."""
    through: Tensor = torch.ops.aten.threshold_backward(gradient, output, 0)
    return through


def convolved(patches: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``[W, out, places]`` from patches ``[W, in, places]``."""
    return torch.baddbmm(bias.unsqueeze(2), weight.flatten(2), patches)
