"""Linear algebra shared by the attacks on linear heads: from the parameter change to the deleted records' gradient.

With x~ = [phi(x); 1], r the residual of a record (``Model.residual``) and Theta = [weights; intercept] as
``[p + 1, Q]``, the gradient of a sum of losses is -sum_i x~_i r_i^T. Of two optima, before and after a deletion,

    grad L(Theta) - grad L(Theta') + lambda (Theta - Theta') = sum over deleted x~_i r_i(Theta')^T =: G

holds exactly for every loss, L being the sum over the records before the deletion: the left side is the Hessian,
averaged over the way from Theta' to Theta, times D = Theta - Theta'. The eavesdropper puts n/m times the public sum in
place of L (Bertran et al., NeurIPS 2024, whose equation it is for ridge).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from palimpsest.attacks.divergence import (
    Divergence,
    Reads,
    divergence_of,
    passes_over,
    pull_of_a_round,
    step_of_a_round,
)
from palimpsest.simulator.world.models.model import Model, model_of, theta
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case

Operator = Literal["identity", "hessian"]
"""What an unlearning rule leaves in the parameters: a gradient times a step, or an optimum's response to it."""

_BLOCK = 4_000_000
"""Numbers held at once for one block of public records."""

_GRAM: dict[tuple[int, str], tuple[Array, Tensor]] = {}
"""The newest public Hessian, with the sample that it is of."""


@dataclass(frozen=True)
class Released:
    """What deletions took out of the gradient, as far as the eavesdropper can tell; all ``[c, p + 1, Q]``.

    Attributes:
        gradients: G, the sum of x~ r^T over the deleted records.
        start: Theta at the other end of the way over which the public Hessian was averaged; ``point`` without one.
        point: Theta to which the residuals r belong.
        scaled: ``[c]`` whether G has the length of the records' gradient, and not its direction alone.
    """

    gradients: Array
    start: Array
    point: Array
    scaled: Array

    def some(self, chosen: Array | Sequence[int] | slice) -> "Released":
        """The same of some cases, chosen by a mask, positions or a slice."""
        return Released(self.gradients[chosen], self.start[chosen], self.point[chosen], self.scaled[chosen])


def precise_model(knowledge: PublicKnowledge) -> Model:
    """The architecture in float64, whatever was released: attacks are linear algebra."""
    return model_of(knowledge.facts.model.model_copy(update={"dtype": "float64"}))


def thetas(cases: Sequence[Case]) -> tuple[Array, Array]:
    """``([c, p + 1, Q], [c, p + 1, Q])`` Theta before and after each deletion."""
    return np.stack([theta(case.before) for case in cases]), np.stack([theta(case.after) for case in cases])


def class_targets(knowledge: PublicKnowledge) -> Tensor:
    """``[m]`` the public labels as the model's losses want them: int64 classes or float64 targets."""
    kind = torch.int64 if knowledge.facts.model.task == "classification" else torch.float64
    return torch.tensor(np.asarray(knowledge.y), dtype=kind)


def public_blocks(knowledge: PublicKnowledge, columns: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield x~ ``[b, p + 1]`` and y ``[b]`` of the public sample, in blocks fit for products with so many columns."""
    model, y = precise_model(knowledge), class_targets(knowledge)
    rows = max(64, _BLOCK // max(model.inputs, columns))
    for start in range(0, len(knowledge.x), rows):
        x = torch.tensor(np.asarray(knowledge.x[start : start + rows]), dtype=torch.float64)
        phi = model.embed(x)
        yield torch.cat([phi, torch.ones(len(phi), 1, dtype=phi.dtype)], 1), y[start : start + rows]


def residuals(model: Model, scores: Tensor, y: Tensor) -> Tensor:
    """Residuals ``[b, c, Q]`` of b records under c models, from ``scores [b, c, Q]`` and ``y [b]``."""
    return model.residual(scores, y.unsqueeze(1).expand(scores.shape[:2]))


def side_by_side(matrices: Array) -> Tensor:
    """``[c, p, Q] -> [p, c * Q]``, for one product with all of them."""
    return torch.tensor(matrices.transpose(1, 0, 2).reshape(matrices.shape[1], -1))


@dataclass
class LastResiduals:
    """Public residuals ``[m, c, Q]`` at the models that were last asked for: what parts in one round shares them.

    Attributes:
        models: ``[c, p + 1, Q]`` Theta.
        residuals: there; of a public sample of one block.
    """

    models: Array | None = None
    residuals: Tensor | None = None

    def at(self, models: Array) -> Tensor | None:
        """What is known of these models."""
        return self.residuals if self.models is not None and np.array_equal(self.models, models) else None


def released_gradient(
    knowledge: PublicKnowledge, before: Array, after: Array, last: LastResiduals | None = None
) -> Array:
    """``[c, p + 1, Q]`` G_hat, what the deletions took out of the gradient, for models at their optimum.

    The public Hessian is averaged over the way between the two models by a difference of gradients: exact for every
    loss where a Hessian at one point is not (a hinge that opens on the way included), at the same cost.

    Args:
        knowledge: the public sample, n and lambda.
        before, after: ``[c, p + 1, Q]`` Theta of each case.
        last: where residuals at ``before`` are looked for and left.
    """
    facts = knowledge.facts
    count, width, outputs = before.shape
    total = _change_of_gradient(knowledge, before, after, last or LastResiduals())
    curved = total.view(width, count, outputs).permute(1, 0, 2).numpy() * (facts.n / len(knowledge.x))
    released: Array = curved + facts.model.regularisation * (before - after)
    return released


def _public_gram(knowledge: PublicKnowledge) -> Tensor:
    """``[p + 1, p + 1]`` X~^T X~ of the public sample; formed once for all batches of cases of one sample and model."""
    key = id(knowledge.x), knowledge.facts.model.model_dump_json()
    if key not in _GRAM:
        width = precise_model(knowledge).inputs + 1
        total = torch.zeros(width, width, dtype=torch.float64)
        for phi, _ in public_blocks(knowledge, width):
            total += phi.T @ phi
        _GRAM.clear()
        _GRAM[key] = knowledge.x, total  # with the sample: as long as it is held, no other has its id
    return _GRAM[key][1]


def _change_of_gradient(knowledge: PublicKnowledge, before: Array, after: Array, last: LastResiduals) -> Tensor:
    """``[p + 1, c * Q]`` the public sum's gradient before less that after."""
    model = precise_model(knowledge)
    count, width, outputs = before.shape
    total = torch.zeros(width, count * outputs, dtype=torch.float64)
    if model.squared:
        change = side_by_side(before - after)
        columns, records = count * outputs, len(knowledge.x)
        if width * (records + columns) < 2 * records * columns:  # fewer operations: it is the same everywhere
            return _public_gram(knowledge) @ change
        for phi, _ in public_blocks(knowledge, width):
            total += phi.T @ (phi @ change)
        return total
    sides = side_by_side(before), side_by_side(after)
    for phi, y in public_blocks(knowledge, count * outputs):
        whole = len(phi) == len(knowledge.x)
        old = last.at(before) if whole else None
        if old is None:
            old = residuals(model, (phi @ sides[0]).view(-1, count, outputs), y)
            last.models, last.residuals = (before, old) if whole else (None, None)
        new = residuals(model, (phi @ sides[1]).view(-1, count, outputs), y)
        total += phi.T @ (new - old).reshape(len(phi), -1)
    return total


def released_gradients(
    cases: Sequence[Case], knowledge: PublicKnowledge, operator: Operator, reads: Reads = "auto"
) -> Released:
    """G of every case.

    Where training and unlearning share their first models, from what the rounds after these added to their difference;
    else from the pair around the unlearning: the change itself over the step (``identity``), or by the public Hessian
    (``hessian``).

    Args:
        cases: at least one.
        knowledge: public facts and sample.
        operator: of the pair.
        reads: what is read of the cases.
    """
    read = {i: divergence_of(case, knowledge) for i, case in enumerate(cases) if reads != "pair"}
    parted = {i: part for i, part in read.items() if part is not None}
    before, after = thetas(cases)
    scaled = np.array([i not in parted for i in range(len(cases))])
    if operator == "identity":
        scaled &= knowledge.facts.operator == "identity"  # of another rule the step is not known
        released = Released((before - after) / knowledge.facts.step, before, before, scaled)
    elif scaled.any():
        gradients = np.zeros(before.shape)
        gradients[scaled] = released_gradient(knowledge, before[scaled], after[scaled])
        released = Released(gradients, before, after, scaled)
    else:
        released = Released(np.zeros(before.shape), before, before, scaled)
    last = LastResiduals()
    for i, part in sorted(parted.items(), key=lambda item: len(item[1].kept)):
        released.gradients[i] = _told(part, cases[i].size, knowledge, reads, last) / step_of_a_round(knowledge)
        released.point[i] = part.common if reads == "first" else part.points.mean(axis=0)
        released.start[i] = released.point[i]
    return released


def _told(part: Divergence, size: int, knowledge: PublicKnowledge, reads: Reads, last: LastResiduals) -> Array:
    """``[p + 1, Q]`` the change that the deleted records made, in the length of one round that reads all of them.

    Of releases that noise rules, the mean difference of the models: increments would hide what it shows.
    """
    rounds = len(part.kept)
    if reads == "first":
        first: Array = part.increments[0]
        return first
    if part.noisy(size):
        return 2.0 * part.mean(size) / passes_over(rounds, knowledge)
    drift = np.zeros((0, *part.common.shape))
    if rounds > 1:
        turned = released_gradient(knowledge, part.kept[:-1], part.gone[:-1], last) / knowledge.facts.n
        drift = pull_of_a_round(knowledge) * turned
    return part.gradient(size, drift) / passes_over(rounds, knowledge)


def dominant(gradients: Array) -> Array:
    """``[c, p + 1, Q] -> [c, p + 1]`` the unit top left singular vector of each, of either sign; zeros for zeros."""
    if gradients.shape[2] == 1:
        vectors = gradients[:, :, 0]
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Array = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
        return unit
    left, values, _ = np.linalg.svd(gradients, full_matrices=False)
    top: Array = left[:, :, 0] * (values[:, :1] > 0)
    return top
