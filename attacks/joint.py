"""The equations of many deletions from one model together: what is left of the training data is in all of them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from palimpsest.attacks.deletion_equations import LEAST, DeletionEquations, lost_residuals
from palimpsest.attacks.linear import precise_model, public_blocks, residuals, side_by_side, thetas
from palimpsest.attacks.prior import PrincipalComponents
from palimpsest.simulator.world.models.model import theta
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Params


class JointEquations(DeletionEquations):
    """One column block for each release Theta_b that followed the same model Theta_0, by whatever way.

    The records that no release has forgotten keep both models at their optimum, so that with rest = n - K, K the
    records deleted anywhere,

        rest / m * sum over public of x~ (r(Theta_b) - r(Theta_0))^T + lambda (Theta_0 - Theta_b)
            = sum over i of x~_i (r_i(Theta_0) - [b still has i] r_i(Theta_b))^T      up to noise of covariance S (x) U,

    for independent branches and for chains alike (a release of a chain has forgotten all that went before). U, of all
    releases together, is rest^2 (1/m + 1/rest) times the second moment of a public record's residual changes. Where
    those changes are linearly dependent, their common noise cancels.
    """

    def __init__(
        self, knowledge: PublicKnowledge, space: PrincipalComponents, cases: Sequence[Case], forgotten: Array
    ) -> None:
        """Set up the equations.

        Args:
            knowledge: the public sample, n and lambda.
            space: the components.
            cases: all from one model.
            forgotten: ``[cases, cases]`` whether release b (second) has forgotten the records of case i (first).
        """
        sizes = [case.size for case in cases]
        points = np.stack([theta(root(cases, forgotten)), *thetas(cases)[1]])
        gradient, noise = _public_part(knowledge, points, knowledge.facts.n - sum(sizes))
        count, _, outputs = points.shape
        lost = lost_residuals(knowledge, space, points)
        for i, size in enumerate(sizes):
            residuals = (lost[:, :1] - ~forgotten[i][:, None] * lost[:, 1:]).reshape(len(lost), -1)
            noise += size / len(lost) * residuals.T @ residuals
        noise += LEAST**2 * np.diag(np.repeat(np.array(sizes) @ forgotten, outputs))
        self._set_up(knowledge, space, gradient, noise)
        flat = side_by_side(points).numpy()
        self._weight = torch.tensor(space.basis.T @ flat[:-1])
        self._bias = torch.tensor(space.mean @ flat[:-1] + flat[-1])
        self._keeps = torch.tensor(~np.repeat(forgotten, sizes, axis=0))[:, :, None]
        self._models = count

    def _residual(self, z: Tensor, labels: Tensor) -> Tensor:
        scores = z[..., : self.width] @ self._weight + self._bias
        y = self._target[0] + self._target[1] * z[..., -1] if self._regression else labels
        each = residuals(self._model, scores.view(len(z), self._models, -1), y)
        return (each[:, :1] - torch.where(self._keeps, each[:, 1:], 0.0)).flatten(1)


def lineage(cases: Sequence[Case]) -> Array:
    """``[cases, cases]`` whether the second's release has forgotten the first's records.

    A case whose model before is another's release goes on from there, and has forgotten what that one has.
    """
    ends = {_key(case.after): i for i, case in enumerate(cases)}
    forgotten = np.zeros((len(cases), len(cases)), dtype=bool)
    for b in range(len(cases)):
        i: int | None = b
        while i is not None and not forgotten[i, b]:
            forgotten[i, b] = True
            i = ends.get(_key(cases[i].before))
    return forgotten


def families(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that go back to one model, in the order of their indices."""
    ordered = sorted(cases, key=lambda case: case.index)
    forgotten = lineage(ordered)
    groups: dict[bytes, list[Case]] = {}
    for b, case in enumerate(ordered):
        groups.setdefault(_key(root(ordered, forgotten, b)), []).append(case)
    return list(groups.values())


def root(cases: Sequence[Case], forgotten: Array, which: int = 0) -> Params:
    """The model that case ``which`` goes back to: the one before the first of the chain that led to it."""
    ancestors = np.flatnonzero(forgotten[:, which])
    oldest = int(ancestors[forgotten[:, ancestors].sum(axis=0).argmin()])
    return cases[oldest].before


def _key(params: Params) -> bytes:
    return b"".join(np.ascontiguousarray(params[name]).tobytes() for name in sorted(params))


def _public_part(knowledge: PublicKnowledge, points: Array, rest: int) -> tuple[Array, Array]:
    """``[p + 1, B * Q]`` the left side of the equations, and U ``[B * Q, B * Q]``, for ``points [B + 1, p + 1, Q]``."""
    model, m, outputs = precise_model(knowledge), len(knowledge.x), points.shape[2]
    columns = (len(points) - 1) * outputs
    side = side_by_side(points)
    curved, moment = torch.zeros(len(side), columns, dtype=side.dtype), torch.zeros(columns, columns, dtype=side.dtype)
    for phi, y in public_blocks(knowledge, side.shape[1]):
        each = residuals(model, (phi @ side).view(len(phi), len(points), outputs), y)
        change = (each[:, 1:] - each[:, :1]).flatten(1)
        curved += phi.T @ change
        moment += change.T @ change
    pull = knowledge.facts.model.regularisation * np.concatenate(list(points[0] - points[1:]), axis=1)
    return rest / m * curved.numpy() + pull, rest**2 * (1.0 / m + 1.0 / rest) * moment.numpy() / m
