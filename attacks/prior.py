"""What records look like: principal components of the public sample, and Gaussians by class or around a guess."""

from dataclasses import dataclass

import numpy as np
import torch

from palimpsest.attacks.linear import precise_model
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_POOLED = 0.3
"""Weight of the covariance pooled over the classes in that of a class, and in that around a guess."""
_NEAR = 0.3
"""How far the neighbours of a guess reach, in standard deviations within classes."""


@dataclass(frozen=True)
class Gaussian:
    """``mean [q]`` and ``root [q, q]``, a square root of the covariance, of coordinates z."""

    mean: Array
    root: Array


class PrincipalComponents:
    """Coordinates z of features in the public sample's principal components: phi = mean + basis z.

    Attributes:
        mean: ``[p]`` of the public features.
        basis: ``[p, components]`` orthonormal.
        spread: ``[components]`` variances, descending.
        within: ``[components]`` shares of variance that are within classes, along the axes that diagonalise them.
        lost: ``[p, rest]`` what the components leave out: principal components times standard deviations.
        z: ``[m, q]`` coordinates of the public records. For regression the standardised target is the last of them, so
            that it is estimated together with the record.
        target: mean and standard deviation of the regression target.
    """

    def __init__(self, knowledge: PublicKnowledge, components: int) -> None:
        """Fit the components to the public sample; fewer where it has fewer dimensions."""
        x = torch.tensor(np.asarray(knowledge.x), dtype=torch.float64)
        features = torch.cat([precise_model(knowledge).embed(rows) for rows in torch.split(x, 2048)]).numpy()
        self.mean: Array = features.mean(axis=0)
        off = features - self.mean
        _, values, axes = np.linalg.svd(off, full_matrices=False)
        rank = max(1, int((values > 1e-9 * values[0]).sum()))
        width = min(components, rank)
        deviations = values / np.sqrt(len(off))
        self.basis: Array = axes[:width].T
        self.spread: Array = deviations[:width] ** 2
        self.lost: Array = axes[width:rank].T * deviations[width:rank]
        self.z: Array = off @ self.basis
        y = np.asarray(knowledge.y)
        self.target = (0.0, 1.0)
        self._classes: Array = np.zeros(len(y), dtype=np.int64)
        if knowledge.facts.model.task == "regression":
            self.target = (float(y.mean()), float(y.std()) or 1.0)
            self.z = np.concatenate([self.z, ((y - self.target[0]) / self.target[1])[:, None]], axis=1)
        else:
            self._classes = y.astype(np.int64)
        self._pooled = self._within()
        whitener = 1.0 / np.sqrt(self.spread)
        self.within: Array = np.linalg.eigvalsh(self._pooled[:width, :width] * whitener[:, None] * whitener)

    def of_class(self, label: int) -> Gaussian:
        """The records of a class; of all classes, where the public sample has none of this one."""
        members = self._members(label)
        return self._gaussian(members, np.full(len(members), 1.0 / len(members)))

    def near(self, z: Array, label: int) -> Gaussian:
        """The records of a class that resemble ``z``, the nearer the more."""
        members = self._members(label)
        distance = ((members - z) ** 2).sum(axis=1)
        reach = _NEAR**2 * np.trace(self._pooled)
        weight = np.exp(-(distance - distance.min()) / (2.0 * reach))
        return self._gaussian(members, weight / weight.sum())

    def coordinates(self, x: Array, knowledge: PublicKnowledge) -> Array:
        """``[k, d] -> [k, components]`` of records."""
        coordinates: Array = (precise_model(knowledge).embed(torch.tensor(x)).numpy() - self.mean) @ self.basis
        return coordinates

    def features(self, z: Array) -> Array:
        """``[k, q] -> [k, p]``."""
        features: Array = self.mean + z[:, : self.basis.shape[1]] @ self.basis.T
        return features

    def _members(self, label: int) -> Array:
        members: Array = self.z[self._classes == label]
        return members if len(members) else self.z

    def _within(self) -> Array:
        """Covariance within classes, with a floor under it."""
        total = np.zeros((self.z.shape[1],) * 2)
        for label in np.unique(self._classes):
            off = self._members(int(label)) - self._members(int(label)).mean(axis=0)
            total += off.T @ off
        total /= len(self.z)
        floor = 1e-6 * np.trace(total) / len(total) + np.finfo(np.float64).tiny
        covariance: Array = total + floor * np.eye(len(total))
        return covariance

    def _gaussian(self, members: Array, weight: Array) -> Gaussian:
        mean = weight @ members
        off = (members - mean) * np.sqrt(weight)[:, None]
        return Gaussian(mean, np.linalg.cholesky((1.0 - _POOLED) * off.T @ off + _POOLED * self._pooled))
