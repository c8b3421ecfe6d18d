"""Classes as vectors."""

import torch
from torch import Tensor, nn

_FEW = 1024
"""Classes of which the identity is held: it takes half the time, and the square of their number in memory."""


class OneHot:
    """Rows of the identity, by class.

    Args:
        classes: how many there are.
        dtype: of the vectors.
        device: where classes lie.
    """

    def __init__(self, classes: int, dtype: torch.dtype, device: torch.device) -> None:
        self._classes, self._dtype = classes, dtype
        self.identity = torch.eye(classes, dtype=dtype).to(device) if classes <= _FEW else None

    def __call__(self, y: Tensor) -> Tensor:
        """``[...]`` int64 classes -> ``[..., classes]``."""
        if self.identity is None:
            return nn.functional.one_hot(y, self._classes).to(self._dtype)
        return nn.functional.embedding(y, self.identity)
