"""Reconstruction of deleted records by gradient matching, for models of any architecture."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from attacks.average import guesses
from attacks.class_score import deleted_labels
from attacks.linear import precise_model
from attacks.matching import Match, flat, matching, roughness_slope
from attacks.raw_difference import layered
from simulator.world.knowledge import PublicKnowledge
from simulator.world.models import model_of
from simulator.world.records import Array, Case, Reconstruction
from simulator.world.specs import Frozen

_TOGETHER = 64
"""Restarts descended at once, if their gradients fit."""
_NUMBERS = 20_000_000
"""Numbers held at once in gradients of restarts."""
_TINY = 1e-12
_LOOSER = 1.0 / 30.0
"""Smoothing at the end of the polish, as a share of the smoothing before."""
_ARRIVED = 1e-9
"""A matching loss at which released parameters can tell no more."""


class Inversion(Frozen):
    """x_hat = argmin over the box of 1 - cos(grad l(x, y; theta), theta' - theta) + tv TV(x) (Hu et al., S&P 2024).

    An ascent step, and in direction nearly an optimum's response, moves the parameters along the deleted records'
    gradient. All records and restarts are descended together; a restart is dropped when it has not improved for a
    quarter of the iterations, and the best by the matching loss is polished: the rate falls to 0 and the smoothing to a
    thirtieth. Several records of a deletion are sought jointly. Labels: granted, or ``deleted_labels``. One record of
    an mlp is read off its first layer, which is exact. Where nothing changed: the public mean, flagged. Guarantee:
    none.

    The paper descends by AdamW on the signs of the gradient, 10,000 iterations of 5 restarts. Adam on the gradient at
    length 1 needs a hundred to come as near, and stronger smoothing that then gives way comes nearer
    (docs/attacks-research.md).

    Attributes:
        iterations: per restart.
        restarts: random starts.
        rate: of Adam, in box widths.
        polish: iterations that follow for the best restart.
        tv: weight of the mean absolute difference of neighbouring pixels (images).
    """

    kind: Literal["inversion"] = "inversion"
    iterations: int = Field(default=100, ge=8)
    restarts: int = Field(default=4, ge=1)
    rate: float = Field(default=0.06, gt=0)
    polish: int = Field(default=250, ge=0)
    tv: float = Field(default=3e-3, ge=0)

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
            for together in alike(searched, together_of(knowledge, self.restarts)):
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
        change = torch.stack([flat(model.tensors(case.after), model) - flat(before, model) for case in cases])
        if knowledge.facts.model.task == "regression":
            # Of a squared error only residual times gradient shows; the bias change is the sum of the residuals.
            shares = change[:, -1] / (knowledge.facts.step * cases[0].size)
            y = shares[:, None].expand(-1, cases[0].size)
        else:
            inferred = [deleted_labels(case, knowledge, model) for case in cases] if labels is None else labels
            y = torch.tensor(np.stack(list(inferred)).astype(np.int64))
        target = change / change.norm(dim=1, keepdim=True).clamp(min=_TINY)
        restarts = starts.shape[1]
        slots = torch.arange(len(cases)).repeat_interleave(restarts)
        descent = _Descent(self, knowledge, cases[0])
        x, misfit = descent.run(torch.tensor(starts).flatten(0, 1), y[slots], target[slots], self.iterations)
        best = restarts * torch.arange(len(cases)) + misfit.view(len(cases), -1).argmin(1)
        chosen, misfit = descent.run(x[best], y, target, self.polish, polish=True)
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


class _Descent:
    """Adam on slopes of length 1 (in box widths): what counts is where they point, as they vanish towards a match."""

    def __init__(self, attack: Inversion, knowledge: PublicKnowledge, case: Case) -> None:
        """For deletions from the model before ``case``."""
        facts = knowledge.facts
        model = model_of(facts.model.model_copy(update={"dtype": "float32"}))
        self._match: Match = matching(model, model.tensors(case.before))
        self._low, self._high = torch.tensor(knowledge.box_low), torch.tensor(knowledge.box_high)
        self._tv = attack.tv if facts.schema_.is_image else 0.0
        self._rate, self._shape = attack.rate, model.spec.shape

    def run(self, x: Tensor, y: Tensor, target: Tensor, steps: int, polish: bool = False) -> tuple[Tensor, Tensor]:
        """Best point ``[b, k, d]`` and matching loss ``[b]`` on the way from each ``x``, the starts among them.

        Rate and smoothing are constant, and who does not improve for a quarter of the steps stops; or they fall.
        """
        x, target = x.clone(), target.to(torch.float32)
        y = y.to(torch.float32) if y.is_floating_point() else y
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        best, least = x.clone(), torch.full((len(x),), torch.inf)
        improved = torch.zeros(len(x), dtype=torch.int64)
        active = torch.arange(len(x))
        for step in range(steps + 1):
            done = step / max(1, steps) if polish else 0.0
            slope, misfit = self._slopes(x[active], y[active], target[active], self._tv * _LOOSER**done)
            better = misfit < least[active]
            moved = active[better]
            improved[moved[misfit[better] < 0.99 * least[moved]]] = step
            best[moved], least[moved] = x[moved], misfit[better]
            going = ((step - improved[active] <= steps // 4) | polish) & (misfit > _ARRIVED)
            active, slope = active[going], slope[going]
            if not len(active):
                break
            first[active] = 0.9 * first[active] + 0.1 * slope
            second[active] = 0.999 * second[active] + 0.001 * slope**2
            mean = first[active] / (1.0 - 0.9 ** (step + 1))
            scale = (second[active] / (1.0 - 0.999 ** (step + 1))).sqrt() + _TINY
            rate = self._rate * (1.0 - done) * (self._high - self._low)
            x[active] = torch.clamp(x[active] - rate * mean / scale, self._low, self._high)
        return best, least

    def _slopes(self, x: Tensor, y: Tensor, target: Tensor, tv: float) -> tuple[Tensor, Tensor]:
        """Slopes by box widths, of length 1, and matching losses."""
        slope, misfit = self._match(x.to(torch.float32), y, target)
        if tv > 0.0:
            slope = slope + tv * roughness_slope(x, self._shape)
        scaled = slope * (self._high - self._low)
        return scaled / scaled.flatten(1).norm(dim=1).clamp(min=_TINY).view(-1, 1, 1), misfit


def together_of(knowledge: PublicKnowledge, restarts: int) -> int:
    """How many cases of so many restarts are descended at once."""
    return max(1, min(_TOGETHER, _NUMBERS // knowledge.model.size) // restarts)


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
