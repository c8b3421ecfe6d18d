"""Labels of several deleted records, refined by exchange: which class, put in another's place, explains G better?"""

import numpy as np
import torch
from torch import Tensor

from palimpsest.attacks.adam import Adam
from palimpsest.attacks.deletion_equations import DeletionEquations
from palimpsest.attacks.labels import infer_labels
from palimpsest.attacks.linear import Released
from palimpsest.attacks.prior import PrincipalComponents
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_STEPS = 40
_RATE = 0.1
_HELD = 5_000_000
"""Numbers held at once in the priors of the guesses that are compared."""


class Exchange:
    """Replaces one label at a time while that raises the posterior density, all replacements compared in one batch.

    Attributes:
        width: number of coordinates of a record.
    """

    def __init__(self, knowledge: PublicKnowledge, space: PrincipalComponents) -> None:
        """Take the priors of all classes that the public sample has; few components will do."""
        self._knowledge, self._space = knowledge, space
        self._classes = [int(label) for label in np.unique(np.asarray(knowledge.y).astype(np.int64))]
        priors = [space.of_class(label) for label in range(knowledge.facts.model.outputs)]
        self._mean = torch.tensor(np.stack([prior.mean for prior in priors]))
        self._root = torch.tensor(np.stack([prior.root for prior in priors]))
        self.width = self._mean.shape[1]

    def infer(self, released: Released, start: Array, exchanges: int) -> Array:
        """``[k]`` ascending labels of the only case in ``released``.

        Args:
            released: its G.
            start: ``[k, q]`` whitened coordinates to start from.
            exchanges: how many labels are replaced at most; 0: the answer of ``infer_labels``.
        """
        size = len(start)
        equations = DeletionEquations(self._knowledge, released, self._space, size)
        labels = torch.tensor(infer_labels(self._knowledge, released, [size])[0].astype(np.int64))
        place = torch.tensor(start)
        if exchanges:
            _, moved = self._descend(equations, labels[None], place[None], 3 * _STEPS)
            place = moved[0]
        for _ in range(exchanges):
            guesses, places = self._neighbours(labels, place)
            together = max(1, _HELD // (size * self.width**2))
            ends = [
                self._descend(equations, some, where, _STEPS)
                for some, where in zip(torch.split(guesses, together), torch.split(places, together), strict=True)
            ]
            best = int(torch.cat([loss for loss, _ in ends]).argmin())
            if best == 0:
                break
            labels, place = guesses[best], torch.cat([moved for _, moved in ends])[best]
        return np.sort(labels.numpy()).astype(np.float64)

    def _neighbours(self, labels: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """These labels, then those with one of them replaced, ``[b, k]``; a replaced record starts from its mean."""
        guesses, places = [labels], [place]
        for i in range(len(labels)):
            for other in self._classes:
                if other != int(labels[i]):
                    guess, where = labels.clone(), place.clone()
                    guess[i], where[i] = other, 0.0
                    guesses.append(guess)
                    places.append(where)
        return torch.stack(guesses), torch.stack(places)

    def _descend(
        self, equations: DeletionEquations, labels: Tensor, place: Tensor, steps: int
    ) -> tuple[Tensor, Tensor]:
        """So many steps of Adam on each guess ``[b, k]`` by itself; return losses ``[b]`` and whitened coordinates."""
        mean, root = self._mean[labels], self._root[labels]
        whitened = place.clone().requires_grad_()
        adam = Adam([whitened], betas=(0.8, 0.95))

        def losses() -> Tensor:
            z = mean + torch.einsum("bkij,bkj->bki", root, whitened)
            return equations.fit(z, labels, whitened)

        for step in range(steps):
            adam.step(losses().sum(), _RATE * (1.0 - 0.95 * step / steps))
        return losses().detach(), whitened.detach()
