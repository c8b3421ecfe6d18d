"""The part of a network's change that any record would cause, estimated on the public sample and turned down."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.models.packs import over_records
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Params

_RECORDS = 750
"""Public records whose gradients are taken, at most."""
_NUMBERS = 200_000_000
"""Numbers in all these gradients, at most."""
_BEST = 5
"""Public records by which a class is judged."""
_FELT = 0.1
"""Directions that are shrunk by less are left as they are."""
_AT_ONCE = 64
_TINY = 1e-12


@dataclass(frozen=True)
class PublicGradients:
    """Gradients of single public records' losses, summed over the models of a path.

    A round's change differs from the deleted records' gradient by the gradients of records that shared their batches:
    its error varies as gradients of other records do. So a direction in which public gradients vary much tells little.
    With lambda_i their second moment along the i-th principal direction and e the mean of all moments, ``whiten``
    shrinks that direction by sqrt(e / (lambda_i + e)).

    Attributes:
        gradients: ``[m, parameters]`` float32.
        y: ``[m]`` classes or targets of these records.
    """

    gradients: Tensor
    y: Array

    @classmethod
    def of(cls, knowledge: PublicKnowledge, path: Sequence[Params]) -> "PublicGradients":
        """Take them at every model of ``path`` and add them up."""
        model = model_of(knowledge.facts.model.model_copy(update={"dtype": "float32"}))
        count = max(2, min(_RECORDS, len(knowledge.x), _NUMBERS // model.size))
        x, y = np.asarray(knowledge.x[:count]), np.asarray(knowledge.y[:count])
        return cls(gradients_of(model, path, x, y), y)

    @cached_property
    def _directions(self) -> tuple[Tensor, Tensor]:
        """Principal directions ``[r, parameters]`` and by how much each is shrunk ``[r]``."""
        values, vectors = torch.linalg.eigh(self.gradients.double() @ self.gradients.double().T)
        shrunk = 1.0 - (values.mean() / (values + values.mean())).sqrt()
        felt = shrunk > _FELT
        directions = (vectors[:, felt] / values[felt].sqrt()).T.float() @ self.gradients
        return directions, shrunk[felt].float()

    @cached_property
    def _unit(self) -> Tensor:
        """``[m, parameters]`` the whitened gradients, of length 1."""
        return torch.nn.functional.normalize(self.whiten(self.gradients), dim=1)

    def whiten(self, gradients: Tensor) -> Tensor:
        """``[..., parameters]`` with what is common to other records turned down; linear and symmetric."""
        directions, shrunk = self._directions
        whitened: Tensor = gradients - ((gradients @ directions.T) * shrunk) @ directions
        return whitened

    def likeness(self, changes: Tensor) -> Array:
        """``[c, m]`` whitened cosine of each public record's gradient and each change ``[c, parameters]``."""
        likeness: Array = (torch.nn.functional.normalize(self.whiten(changes), dim=1) @ self._unit.T).double().numpy()
        return likeness

    def evidence(self, change: Tensor, outputs: int) -> Array:
        """``[outputs]`` mean likeness of a change to the few public records of each class that are most like it.

        -1 for a class without public records.
        """
        likeness = self.likeness(change[None])[0]
        of_classes = [likeness[self.y == label] for label in range(outputs)]
        evidence: Array = np.array([np.sort(some)[-_BEST:].mean() if len(some) else -1.0 for some in of_classes])
        return evidence

    def labels(self, changes: Tensor, size: int) -> Array:
        """``[c, size]`` ascending classes of the records deleted, by the public records that explain each change best.

        One record: the class whose best few records are most alike. Several: the classes of public records that are
        picked one after the other, each so that the sum of those picked is most like the change.
        """
        if size == 1:
            outputs = int(self.y.max()) + 1
            single: Array = np.stack([[self.evidence(each, outputs).argmax()] for each in changes]).astype(np.float64)
            return single
        whitened = self.whiten(self.gradients)
        targets = torch.nn.functional.normalize(self.whiten(changes), dim=1)
        products, along = (whitened @ whitened.T).double(), (whitened @ targets.T).double()
        picked: Array = np.stack([self._pursued(products, along[:, i], size) for i in range(len(changes))])
        return picked

    def _pursued(self, products: Tensor, along: Tensor, size: int) -> Array:
        """``[size]`` ascending classes of the records picked for one change."""
        length, reached = torch.zeros(()), torch.zeros(())
        crossed, picked = torch.zeros(len(along), dtype=torch.float64), []
        for _ in range(size):
            norms = (length + 2 * crossed + products.diagonal()).clamp(min=_TINY).sqrt()
            best = int(((reached + along) / norms).argmax())
            length, reached = length + 2 * crossed[best] + products[best, best], reached + along[best]
            crossed = crossed + products[best]
            picked.append(best)
        labels: Array = np.sort(self.y[picked].astype(np.float64))
        return labels


def change_of(case: Case, model: Model) -> Tensor:
    """``[parameters]`` float32 change of a case's model, along the deleted records' gradient."""
    parts = [
        (np.asarray(case.after[name], np.float64) - np.asarray(case.before[name], np.float64)).ravel()
        for name in model.names
    ]
    return torch.tensor(np.concatenate(parts), dtype=torch.float32)


def gradients_of(model: Model, path: Sequence[Params], x: Array, y: Array) -> Tensor:
    """``[m, parameters]`` gradients of single records' losses, added up over the models of a path.

    Args:
        model: the architecture.
        path: at least one model.
        x, y: ``[m, d]`` records and ``[m]`` their classes or targets.
    """

    def loss(at: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        return model.losses(model.scores(at, record[None]), label[None]).sum()

    slopes_of = over_records(model, grad(loss), (None, 0, 0))
    targets = torch.int64 if model.spec.task == "classification" else model.dtype
    records, labels = torch.tensor(x, dtype=model.dtype), torch.tensor(y, dtype=targets)
    total = torch.zeros(len(x), model.size, dtype=model.dtype)
    for params in path:
        tensors = model.tensors(params)
        for begin in range(0, len(x), _AT_ONCE):
            rows = slice(begin, begin + _AT_ONCE)
            slopes = slopes_of(tensors, records[rows], labels[rows])
            total[rows] += torch.cat([slopes[name].flatten(1) for name in model.names], 1)
    return total
