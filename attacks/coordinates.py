"""Ways to write records as numbers about as large as 1, in which a search for them takes its steps."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_TINY = 1e-12


class Coordinates(Protocol):
    """Records ``[..., d]`` as ``[..., q]``, affinely; both float32.

    Attributes:
        pace: of a step in them, as a share of the rate.
        bounded: whether they stay in [0, 1], the box; else they are standard normal of public records.
    """

    pace: float
    bounded: bool

    def of(self, x: Tensor) -> Tensor:
        """Coordinates of the nearest records that they reach."""

    def records(self, z: Tensor) -> Tensor:
        """The records at these coordinates."""

    def pulled(self, slope: Tensor) -> Tensor:
        """A slope by the coordinates, from that by the records."""


class Components:
    """Principal components of the public sample from its mean, each in units of its own deviation."""

    pace, bounded = 1.0, False

    def __init__(self, knowledge: PublicKnowledge) -> None:
        """All that the sample spans; costs its singular value decomposition."""
        off = np.asarray(knowledge.x, np.float64) - knowledge.mean
        _, values, axes = np.linalg.svd(off, full_matrices=False)
        kept = values > 1e-6 * max(float(values[0]), _TINY)
        deviations = values[kept] / np.sqrt(len(off))
        self._mean = torch.tensor(knowledge.mean, dtype=torch.float32)
        self._root = torch.tensor(axes[kept].T * deviations, dtype=torch.float32)
        self._inverse = torch.tensor(axes[kept].T / deviations, dtype=torch.float32)

    def drawn(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """``[*shape, d]`` records with the public sample's mean and covariance, clipped to no box."""
        z = rng.standard_normal((*shape, self._root.shape[1]))
        records: Array = self.records(torch.tensor(z, dtype=torch.float32)).double().numpy()
        return records

    def of(self, x: Tensor) -> Tensor:
        """See ``Coordinates``."""
        return (x - self._mean) @ self._inverse

    def records(self, z: Tensor) -> Tensor:
        """See ``Coordinates``."""
        return self._mean + z @ self._root.T

    def pulled(self, slope: Tensor) -> Tensor:
        """See ``Coordinates``."""
        return slope @ self._root


class Columns:
    """The columns themselves, from 0 to 1 across the box."""

    pace, bounded = 0.2, True

    def __init__(self, low: Tensor, high: Tensor) -> None:
        """Between the ends ``[d]`` of the box."""
        self._low, self._width = low, (high - low).clamp(min=_TINY)

    def of(self, x: Tensor) -> Tensor:
        """See ``Coordinates``."""
        return ((x - self._low) / self._width).clamp(0.0, 1.0)

    def records(self, z: Tensor) -> Tensor:
        """See ``Coordinates``."""
        return self._low + z * self._width

    def pulled(self, slope: Tensor) -> Tensor:
        """See ``Coordinates``."""
        return slope * self._width
