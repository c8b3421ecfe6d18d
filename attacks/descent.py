"""The search for records whose gradient points along a change of the parameters."""

from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import Tensor

from palimpsest.attacks.coordinates import Columns, Components, Coordinates
from palimpsest.attacks.matching import Match, roughness_slope
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.specs import Frozen

_TINY = 1e-12
_LOOSER_PRIOR, _LOOSER_TV = 1e-3, 1.0 / 300.0
"""What is left of prior and smoothing at the end of a polish."""
_ARRIVED = 1e-9
"""A matching loss at which released parameters can tell no more."""


@dataclass(frozen=True)
class Ground:
    """Where records are sought.

    Attributes:
        low, high: ``[d]`` ends of the box.
        shape: of an image; empty for rows of a table.
    """

    low: Tensor
    high: Tensor
    shape: tuple[int, ...]
    components: Components
    columns: Columns

    @classmethod
    def of(cls, knowledge: PublicKnowledge) -> "Ground":
        """Read it off the public sample."""
        schema = knowledge.facts.schema_
        low, high = (torch.tensor(end, dtype=torch.float32) for end in (knowledge.box_low, knowledge.box_high))
        shape = schema.shape if schema.is_image else ()
        return cls(low, high, shape, Components(knowledge), Columns(low, high))


@dataclass(frozen=True)
class MatchingTarget:
    """What is searched for: the k records of each of c deletions.

    Attributes:
        match: the misfit at the model to which the changes belong, and its slope.
        y: ``[c, k]`` classes; of a regression residuals.
        target: ``[c, ...]`` float32 changes at length 1, as the match wants them.
        early: the misfit of the first stage, where it is another one; of the same targets.
    """

    ground: Ground
    match: Match
    y: Tensor
    target: Tensor
    early: Match | None = None

    def some(self, rows: Tensor) -> "MatchingTarget":
        """Of some deletions, each as often as ``rows`` names it."""
        return replace(self, y=self.y[rows], target=self.target[rows])

    @property
    def begun(self) -> "MatchingTarget":
        """The same for the first stage."""
        return self if self.early is None else replace(self, match=self.early)


class Search(Frozen):
    """How records are searched for, in three stages; of several starts, the one that matches best after the first.

    First in principal components of the public sample, each in units of its own deviation: steps go where records
    differ, and half the sum of squares is a prior. Then there, while rate and prior fall. Then in columns (pixels), of
    which the components leave out a part, while rate and smoothing fall.

    Attributes:
        iterations: of the first stage.
        rate: of Adam, in public deviations of the components; in columns a fifth of it, in box widths.
        polish: iterations of the other two stages, a third of them in components.
        prior: weight of half the sum of squares of the components.
        tv: weight of the mean absolute difference of neighbouring pixels (images), in the last stage.
    """

    iterations: int = Field(default=100, ge=8)
    rate: float = Field(default=0.1, gt=0)
    polish: int = Field(default=600, ge=0)
    prior: float = Field(default=1e-2, ge=0)
    tv: float = Field(default=3e-2, ge=0)

    def search(self, sought: MatchingTarget, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Search from ``starts [c, restarts, k, d]``.

        Returns:
            the best records in the box, ``[c, k, d]``, and their matching losses ``[c]``.
        """
        count, restarts = starts.shape[:2]
        components, coarse = sought.ground.components, self.polish // 3
        slots = torch.arange(count).repeat_interleave(restarts)
        x, misfit = self._descend(sought.begun.some(slots), components, starts.flatten(0, 1), self.iterations)
        best = restarts * torch.arange(count) + misfit.view(count, restarts).argmin(1)
        x, _ = self._descend(sought, components, x[best], coarse, falling=True)
        return self.refine(sought, x, self.polish - coarse)

    def refine(self, sought: MatchingTarget, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The last stage, from ``x [c, k, d]``; returns as ``search``, and what it began with if nothing is better."""
        return self._descend(sought, sought.ground.columns, x, steps, falling=True)

    def _descend(
        self, sought: MatchingTarget, where: Coordinates, x: Tensor, steps: int, falling: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Adam on slopes of length 1: what counts is where they point, as they vanish towards a match.

        Rate and weights are constant, and who does not improve for a quarter of the steps stops; or they fall.
        """
        z = where.of(x.to(torch.float32))
        first, second = torch.zeros_like(z), torch.zeros_like(z)
        best, least = torch.empty_like(x, dtype=torch.float32), torch.full((len(x),), torch.inf)
        improved = torch.zeros(len(x), dtype=torch.int64)
        active = torch.arange(len(x))
        for step in range(steps + 1):
            done = step / max(1, steps) if falling else 0.0
            inside, slope, misfit = self._slopes(sought.some(active), where, z[active], done)
            better = misfit < least[active]
            moved = active[better]
            improved[moved[misfit[better] < 0.99 * least[moved]]] = step
            best[moved], least[moved] = inside[better], misfit[better]
            going = ((step - improved[active] <= steps // 4) | falling) & (misfit > _ARRIVED)
            active, slope = active[going], slope[going]
            if not len(active):
                break
            first[active] = 0.9 * first[active] + 0.1 * slope
            second[active] = 0.999 * second[active] + 0.001 * slope**2
            mean = first[active] / (1.0 - 0.9 ** (step + 1))
            scale = (second[active] / (1.0 - 0.999 ** (step + 1))).sqrt() + _TINY
            moved_z = z[active] - where.pace * self.rate * (1.0 - done) * mean / scale
            z[active] = moved_z.clamp(0.0, 1.0) if where.bounded else moved_z
        return best, least

    def _slopes(
        self, sought: MatchingTarget, where: Coordinates, z: Tensor, done: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The records at ``z``, moved into the box; slopes by the coordinates, of length 1; and matching losses."""
        ground, x = sought.ground, where.records(z)
        inside = torch.clamp(x, ground.low, ground.high)
        slope, misfit = sought.match(inside, sought.y, sought.target)
        if where.bounded:
            if ground.shape and self.tv > 0.0:
                slope = slope + self.tv * _LOOSER_TV**done * roughness_slope(inside, ground.shape)
            slope = where.pulled(slope)
        else:
            slope = torch.where((x - inside) * slope < 0.0, 0.0, slope)  # further outside the box nothing changes
            slope = where.pulled(slope) + self.prior * _LOOSER_PRIOR**done * z
        return inside, slope / slope.flatten(1).norm(dim=1).clamp(min=_TINY).view(-1, 1, 1), misfit
