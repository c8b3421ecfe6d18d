"""Classes as vectors."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import embedding


def one_hot(y: Tensor, outputs: int, like: Tensor) -> Tensor:
    """``[...] -> [..., outputs]`` what ``torch.nn.functional.one_hot`` makes of classes, in half the time.

    Args:
        y: classes.
        outputs: how many there are.
        like: has the type and the device that are wanted.
    """
    return embedding(y, _identity(outputs, like.dtype, like.device))


@lru_cache
def _identity(outputs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.eye(outputs, dtype=dtype).to(device)
