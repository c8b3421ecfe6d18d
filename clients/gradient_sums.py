"""Sums over records of loss gradients, and of the Hessian times a vector."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, jvp

from palimpsest.clients import heads
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.models.packs import over_models
from palimpsest.simulator.world.protocols.federation import BlockResult, Loss


def gradient_sums(
    model: Model, params: dict[str, Tensor], chunks: Iterable[tuple[Tensor, Tensor]], used: Tensor, of_loss: Loss
) -> list[BlockResult]:
    """Add up the loss gradients of the used records, chunk by chunk, for W models at once.

    Args:
        model: the architecture.
        params: name -> ``[W, ...]``.
        chunks: features and labels, the same for all models.
        used: ``[W, n]`` which records count for which model.
        of_loss: whose gradients.
    """
    if model.linear and of_loss == "training":
        sums, total = heads.gradient_sums(model, params, chunks, used)
    else:
        sums, total = _differentiated(model, params, chunks, used, of_loss)
    sums_of, losses, counts = (
        {name: value.cpu().numpy() for name, value in sums.items()},
        total.cpu(),
        used.sum(1).cpu(),
    )
    return [
        BlockResult({name: value[i] for name, value in sums_of.items()}, float(counts[i]), {"loss": float(losses[i])})
        for i in range(len(used))
    ]


def _differentiated(
    model: Model, params: dict[str, Tensor], chunks: Iterable[tuple[Tensor, Tensor]], used: Tensor, of_loss: Loss
) -> tuple[dict[str, Tensor], Tensor]:
    """name -> ``[W, ...]`` float64 sums of gradients, and ``[W]`` of losses, by automatic differentiation."""
    wanted = len(used)
    if wanted == 1:  # a lone matrix may take another kernel than a stack of them
        params = {name: value.expand(2, *value.shape[1:]).contiguous() for name, value in params.items()}
        used = used.expand(2, -1)

    def total(params_of: dict[str, Tensor], counts: Tensor, features: Tensor, y: Tensor) -> Tensor:
        scores = model.head(params_of, features)
        each = model.losses(scores, y) if of_loss == "training" else _unlearning_losses(scores, y)
        return torch.where(counts, each, 0.0).sum()

    sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in params.items()}
    losses, seen = torch.zeros(len(used), dtype=torch.float64, device=used.device), 0
    for features, y in chunks:
        counted = used[:, seen : seen + len(y)]
        gradients, loss = over_models(model, grad_and_value(total), (0, 0, None, None))(params, counted, features, y)
        for name, value in gradients.items():
            sums[name] += value.double()
        losses += loss.double()
        seen += len(y)
    return {name: value[:wanted] for name, value in sums.items()}, losses[:wanted]


def _unlearning_losses(scores: Tensor, y: Tensor) -> Tensor:
    """``[n]`` -log(1 - p_y / 2): 0 where the label is given up, log 2 where the model is sure of it."""
    sure = torch.softmax(scores, -1).gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return -torch.log1p(-0.5 * sure)


def hessian_times(
    model: Model, params: dict[str, Tensor], vector: dict[str, Tensor], x: Tensor, y: Tensor, used: Tensor
) -> dict[str, Tensor]:
    """Derivative along ``vector`` of the gradient of the used records' summed losses."""

    def total(params_of: dict[str, Tensor]) -> Tensor:
        return torch.where(used, model.losses(model.head(params_of, x), y), 0.0).sum()

    product: dict[str, Tensor] = jvp(grad(total), (params,), (vector,))[1]
    return product
