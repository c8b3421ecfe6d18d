"""Reconstruction of deleted records by gradient matching, for models of any architecture."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

from attacks.average import guesses
from attacks.class_score import deleted_labels
from attacks.linear import precise_model
from attacks.raw_difference import layered
from simulator.world.knowledge import PublicKnowledge
from simulator.world.models import Model
from simulator.world.records import Array, Case, Reconstruction
from simulator.world.specs import Frozen

_TOGETHER = 64
"""Restarts descended at once."""
_DECAY = 1e-2
_TINY = 1e-12
_LOOSER = 0.1
"""Smoothing while the best restart is polished, as a share of the smoothing before."""
_ARRIVED = 1e-9
"""A matching loss at which released parameters can tell no more."""

_Match: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, tuple[Tensor, Tensor]]]


class Inversion(Frozen):
    """x_hat = argmin over the box of 1 - cos(grad l(x, y; theta), theta' - theta) + tv TV(x) (Hu et al., S&P 2024).

    An ascent step, and in direction nearly an optimum's response, moves the parameters along the deleted records'
    gradient. AdamW on the signs of the gradient, the rate halved at 3/8, 5/8 and 7/8 of the iterations. All records and
    restarts are descended together, and a restart is dropped when it has not improved for a quarter of the iterations.
    The best by the matching loss goes on, beyond the paper, without signs and with a tenth of the smoothing. Several
    records of a deletion are sought jointly. Labels: granted, or ``deleted_labels``. One record of an mlp is read off
    its first layer, which is exact. Where nothing changed: the public mean, flagged. Guarantee: none. Against the
    paper's 10,000 iterations of 5 restarts these defaults are short.

    Attributes:
        iterations: per restart.
        restarts: random starts.
        rate: of AdamW, in box widths; 0.04 in the paper.
        polish: iterations that follow for the best restart.
        tv: weight of the mean absolute difference of neighbouring pixels (images).
    """

    kind: Literal["inversion"] = "inversion"
    iterations: int = Field(default=300, ge=8)
    restarts: int = Field(default=4, ge=1)
    rate: float = Field(default=0.06, gt=0)
    polish: int = Field(default=300, ge=0)
    tv: float = Field(default=1e-3, ge=0)

    models: ClassVar[frozenset[str]] = frozenset({"mlp", "cnn", "resnet18"})
    needs: ClassVar[frozenset[str]] = frozenset({"public sample", "unlearning rule"})

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct all cases, those of one size and model in one batch; every case has the same random starts."""
        found = guesses([case for case in cases if case.silent], knowledge, no_signal=True)
        loud = [case for case in cases if not case.silent]
        direct = [case for case in loud if case.size == 1 and knowledge.facts.model.kind == "mlp"]
        found |= layered(direct, knowledge)
        searched = [case for case in loud if case.index not in found]
        if searched:
            longest = max(case.size for case in searched)
            width = knowledge.x.shape[1]
            starts = rng.uniform(knowledge.box_low, knowledge.box_high, (longest, self.restarts, width))
            for together in alike(searched, max(1, _TOGETHER // self.restarts)):
                same = starts[: together[0].size].transpose(1, 0, 2)
                found |= self.search(together, knowledge, np.stack([same] * len(together)))
        return [found[case.index] for case in cases]

    def search(
        self, cases: Sequence[Case], knowledge: PublicKnowledge, starts: Array, labels: Array | None = None
    ) -> dict[int, Reconstruction]:
        """Invert cases of one size k and one model before.

        Args:
            cases: at least one.
            knowledge: the box, the rule and the public sample.
            starts: ``[c, restarts, k, d]`` where the restarts of each case begin.
            labels: ``[c, k]`` classes of the records in ``starts``; ``deleted_labels`` where not given.

        Returns:
            Answers by case index.
        """
        model = precise_model(knowledge)
        before = model.tensors(cases[0].before)
        change = torch.stack([_flat(model.tensors(case.after), model) - _flat(before, model) for case in cases])
        if knowledge.facts.model.task == "regression":
            # Of a squared error only residual times gradient shows; the bias change is the sum of the residuals.
            shares = change[:, -1] / (knowledge.facts.step * cases[0].size)
            y = shares[:, None].expand(-1, cases[0].size)
        else:
            inferred = [deleted_labels(case, knowledge, model) for case in cases] if labels is None else labels
            y = torch.tensor(np.stack(list(inferred)).astype(np.int64))
        target = change / change.norm(dim=1, keepdim=True).clamp(min=_TINY)
        tv = self.tv if knowledge.facts.schema_.is_image else 0.0
        match, smooth = _matching(model, before, tv), _matching(model, before, _LOOSER * tv)
        restarts = starts.shape[1]
        slots = torch.arange(len(cases)).repeat_interleave(restarts)
        x, misfit = self._descend(match, torch.tensor(starts).flatten(0, 1), y[slots], target[slots], knowledge)
        best = restarts * torch.arange(len(cases)) + misfit.view(len(cases), -1).argmin(1)
        chosen, misfit = self._polished(smooth, x[best], misfit[best], y, target, knowledge)
        if knowledge.facts.model.task == "regression":
            with torch.no_grad():
                y = model.scores(before, chosen)[..., 0] - y
        return {
            case.index: Reconstruction(
                case=case.index,
                x=chosen[i].numpy(),
                y=y[i].numpy().astype(np.float64) if case.labels is None else np.array(case.labels, np.float64),
                notes={"matching_loss": float(misfit[i])},
            )
            for i, case in enumerate(cases)
        }

    def _descend(
        self, match: _Match, x: Tensor, y: Tensor, target: Tensor, knowledge: PublicKnowledge
    ) -> tuple[Tensor, Tensor]:
        """Best point ``[b, k, d]`` and matching loss ``[b]`` of every restart."""
        low, high = torch.tensor(knowledge.box_low), torch.tensor(knowledge.box_high)
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        best, least = x.clone(), torch.full((len(x),), torch.inf, dtype=x.dtype)
        improved = torch.zeros(len(x), dtype=torch.int64)
        active = torch.arange(len(x))
        for step in range(self.iterations):
            gradient, (_, misfit) = match(x[active], y[active], target[active])
            better = misfit < least[active]
            moved = active[better]
            improved[moved[misfit[better] < 0.99 * least[moved]]] = step
            best[moved], least[moved] = x[moved], misfit[better]
            going = (step - improved[active] <= self.iterations // 4) & (misfit > _ARRIVED)
            active, sign = active[going], gradient[going].sign()
            if not len(active):
                break
            rate = self.rate * 0.5 ** sum(step >= self.iterations * part / 8 for part in (3, 5, 7)) * (high - low)
            first[active] = 0.9 * first[active] + 0.1 * sign
            second[active] = 0.999 * second[active] + 0.001 * sign**2
            mean = first[active] / (1.0 - 0.9 ** (step + 1))
            scale = (second[active] / (1.0 - 0.999 ** (step + 1))).sqrt() + 1e-8
            x[active] = torch.clamp((1.0 - _DECAY * rate) * x[active] - rate * mean / scale, low, high)
        return best, least

    def _polished(
        self, match: _Match, x: Tensor, least: Tensor, y: Tensor, target: Tensor, knowledge: PublicKnowledge
    ) -> tuple[Tensor, Tensor]:
        """Adam on the gradient itself, whose steps shrink where signs would keep jumping; never a worse match."""
        low, high = torch.tensor(knowledge.box_low), torch.tensor(knowledge.box_high)
        place, best = x.clone().requires_grad_(), x.clone()
        optimiser = torch.optim.Adam([place], eps=_TINY)
        for step in range(self.polish + 1):
            gradient, (_, misfit) = match(place.detach(), y, target)
            better = misfit < least
            best[better], least = place.detach()[better], torch.minimum(misfit, least)
            optimiser.param_groups[0]["lr"] = 0.5 * self.rate * (1.0 - step / (self.polish + 1))
            size = gradient.flatten(1).norm(dim=1).clamp(min=_TINY).view(-1, 1, 1)
            place.grad = gradient * (high - low) / size
            optimiser.step()
            with torch.no_grad():
                place.copy_(torch.clamp(place, low, high))
        return best, least


def alike(cases: Sequence[Case], most: int) -> Iterator[list[Case]]:
    """Cases with as many deleted records and the same model before, at most so many at once."""
    groups: list[list[Case]] = []
    for case in sorted(cases, key=lambda one: one.index):
        for group in groups:
            if len(group) < most and group[0].size == case.size and _same(group[0], case):
                group.append(case)
                break
        else:
            groups.append([case])
    yield from groups


def _same(one: Case, other: Case) -> bool:
    return all(np.array_equal(one.before[name], other.before[name]) for name in one.before)


def _flat(params: dict[str, Tensor], model: Model) -> Tensor:
    return torch.cat([params[name].reshape(-1) for name in model.names])


def _matching(model: Model, before: dict[str, Tensor], tv: float) -> _Match:
    """Gradient by x, and values (total, matching loss), of restarts ``[b, k, d]``, labels and targets."""

    def summed(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        scores = model.scores(params, x)
        if model.spec.task == "regression":
            y = model.scores(before, x)[:, 0] - y
        return model.losses(scores, y).sum()

    def loss(x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        gradient = _flat(grad(summed)(before, x, y), model)
        misfit = 1.0 - (gradient @ target) / gradient.norm().clamp(min=_TINY)
        if tv == 0.0:
            return misfit, misfit
        image = x.view(-1, *model.spec.shape)
        return misfit + tv * (image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()), misfit

    matched: _Match = vmap(grad_and_value(loss, has_aux=True))
    return matched
