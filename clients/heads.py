"""Loss gradients of many linear models on the same records: two products for all of them."""

from collections.abc import Iterable

import torch
from torch import Tensor

from palimpsest.simulator.world.models.model import Model

_ALIGNED = 4
_COLUMNS = 12
"""Columns that the CPU's matrix kernels compute at a time.

Each model's outputs are padded to a multiple of ``_ALIGNED``, and those of all models together to one of ``_COLUMNS``:
every model then goes through the same kernel, equally aligned in memory, and its bits are the same at any place among
any number of models (measured with MKL on AVX2, in both precisions; without padding they are not).
"""


def gradient_sums(
    model: Model, params: dict[str, Tensor], chunks: Iterable[tuple[Tensor, Tensor]], used: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Add up the used records' gradients, chunk by chunk.

    Args:
        model: linear.
        params: name -> ``[W, ...]``.
        chunks: features ``[n, p]`` and labels ``[n]``, the same for all models.
        used: ``[W, n]`` which records count for which model.

    Returns:
        name -> ``[W, ...]`` float64 sums of gradients, and ``[W]`` of losses.
    """
    count, outputs, width = params["weight"].shape
    weight, bias = _padded(params["weight"]), _padded(params["bias"])
    sums = torch.zeros(len(weight), width + 1, dtype=torch.float64, device=weight.device)
    loss, seen = torch.zeros(count, dtype=torch.float64, device=weight.device), 0
    for features, y in chunks:
        counted = used[:, seen : seen + len(y)]
        seen += len(y)
        scores = _own(torch.addmm(bias, features, weight.T).T, count, outputs).transpose(1, 2)
        labels = y.expand(count, -1)
        pull = torch.where(counted.unsqueeze(-1), model.residual(scores, labels), 0.0)
        loss += torch.where(counted, model.losses(scores, labels), 0.0).sum(1).double()
        rows = _padded(pull.transpose(1, 2))
        sums[:, :width] -= rows @ features
        sums[:, width] -= rows.sum(1)
    by_model = _own(sums, count, outputs)
    return {"weight": by_model[..., :width], "bias": by_model[..., width]}, loss


def _padded(of_models: Tensor) -> Tensor:
    """``[W, Q, ...]`` to ``[columns, ...]``, zeros where there is no output."""
    count, outputs = of_models.shape[:2]
    columns = _up(count * _up(outputs, _ALIGNED), _COLUMNS)
    padded = of_models.new_zeros(columns, *of_models.shape[2:])
    _own(padded, count, outputs)[:] = of_models
    return padded


def _own(padded: Tensor, count: int, outputs: int) -> Tensor:
    """A view ``[W, Q, ...]`` of what is not padding."""
    width = _up(outputs, _ALIGNED)
    return padded[: count * width].view(count, width, *padded.shape[1:])[:, :outputs]


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
