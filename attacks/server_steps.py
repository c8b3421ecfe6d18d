"""What a server made of the clients' mean update, undone: the releases alone tell it where the strategy is public.

A server with momentum or adaptive moments keeps a state, which is a function of the mean updates that it has had. The
first release after the start gives the first of them, this the state, and so on. To add a strategy: write its class,
add a line to ``STEPS``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, ValidationError

from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.protocols.strict import said
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.specs import Frozen

_ROUNDING = 2.0**-22
"""Error of a step that the rounding of released float32 parameters explains, as a share of the parameters."""
_FIT = 1e-6
"""The same as a share of the step."""


@dataclass(frozen=True)
class Memory:
    """What a server keeps from round to round.

    Attributes:
        steps: that it has taken.
        arrays: float64 arrays of the model's shapes, by what they are; empty at the start.
    """

    steps: int = 0
    arrays: Mapping[str, Params] = field(default_factory=dict)

    def then(self, **arrays: Params) -> "Memory":
        """What is kept after one step more."""
        return Memory(self.steps + 1, arrays)


class ServerStep(Frozen):
    """Of a strategy whose server does something else with the updates, or of which nothing is known: it stays as it is.

    Attributes:
        averages: whether what ``mean`` returns is the clients' mean update, weighted by their records.
        descends: whether the clients' local steps go down their losses, so that a round pulls models together.
        keeps: whether the step of the model is the mean update itself.
    """

    averages: ClassVar[bool] = False
    descends: ClassVar[bool] = False
    keeps: ClassVar[bool] = True

    def mean(self, step: Params, memory: Memory, near: Params | None, error: Params) -> tuple[Params, Memory]:
        """The mean update behind a step of the global model, and what the server keeps after it.

        Args:
            step: float64, not 0 everywhere.
            memory: of the server before it.
            near: a mean update like it: where several explain the step, the one closest to it is meant, or else the
                smallest.
            error: how exactly the step is known.
        """
        return step, memory


class Averaging(ServerStep):
    """The model moves by the mean update."""

    averages: ClassVar[bool] = True
    descends: ClassVar[bool] = True


class Corrected(ServerStep):
    """Scaffold: a multiple of the plain mean, of clients whose steps control variates bend.

    Attributes:
        server_learning_rate: that multiple.
    """

    keeps: ClassVar[bool] = False
    server_learning_rate: float = Field(gt=0)

    def mean(self, step: Params, memory: Memory, near: Params | None, error: Params) -> tuple[Params, Memory]:
        """The step over its rate."""
        return {name: value / self.server_learning_rate for name, value in step.items()}, memory.then()


class Momentum(Averaging):
    """v <- beta v + mean update, and a step of eta v.

    Attributes:
        server_momentum, server_learning_rate: beta and eta.
    """

    keeps: ClassVar[bool] = False
    server_momentum: float = Field(ge=0, lt=1)
    server_learning_rate: float = Field(gt=0)

    def mean(self, step: Params, memory: Memory, near: Params | None, error: Params) -> tuple[Params, Memory]:
        """v less beta times the one before."""
        velocity = {name: value / self.server_learning_rate for name, value in step.items()}
        last = memory.arrays.get("velocity", {})
        mean = {name: value - self.server_momentum * last.get(name, 0.0) for name, value in velocity.items()}
        return mean, memory.then(velocity=velocity)


class Adaptive(Averaging):
    """m <- b1 m + (1 - b1) D, v by a rule of D^2, and a step of eta m / (sqrt(v) + tau); D is the mean update.

    Each parameter by itself: (step (sqrt(v) + tau) - eta b1 m)^2 = (eta (1 - b1) D)^2 is a quadratic equation for D
    wherever v is linear in D^2. Up to two mean updates explain one step: a larger one would raise v by more than m.

    Attributes:
        server_learning_rate, beta_1, beta_2, tau: as of the strategy.
    """

    keeps: ClassVar[bool] = False
    server_learning_rate: float = Field(gt=0)
    beta_1: float = Field(ge=0, lt=1)
    beta_2: float = Field(ge=0, lt=1)
    tau: float = Field(gt=0)

    def mean(self, step: Params, memory: Memory, near: Params | None, error: Params) -> tuple[Params, Memory]:
        """The root of the equation that is meant."""
        rate, mean, first, second = self.rate(memory.steps + 1), {}, {}, {}
        for name, value in step.items():
            m, v = (memory.arrays.get(kept, {}).get(name, np.zeros_like(value)) for kept in ("first", "second"))
            wanted = np.zeros_like(value) if near is None else near[name]
            mean[name] = self._root(value, (m, v), rate, wanted, error[name])
            first[name] = self.beta_1 * m + (1.0 - self.beta_1) * mean[name]
            second[name] = self.second_moment(v, mean[name] ** 2)
        return mean, memory.then(first=first, second=second)

    def _root(self, step: Array, moments: tuple[Array, Array], rate: float, near: Array, error: Array) -> Array:
        """D, of those that explain the step the one nearest to ``near``; or else the one that explains it best."""
        m, v = moments
        roots = np.stack(list(self._roots(step, m, v, rate)))
        with np.errstate(all="ignore"):
            second = self.second_moment(v, roots**2)
            explained = rate * (self.beta_1 * m + (1.0 - self.beta_1) * roots) / (np.sqrt(second) + self.tau)
            missed = np.abs(explained - step)
        missed = np.where(np.isfinite(missed), missed, np.inf)
        fits = missed <= _FIT * np.abs(step) + error
        apart = np.where(fits, np.abs(roots - near), np.inf)
        chosen = np.where(fits.any(axis=0), apart.argmin(axis=0), missed.argmin(axis=0))
        root: Array = np.take_along_axis(roots, chosen[None], 0)[0]
        return root

    def _roots(self, step: Array, m: Array, v: Array, rate: float) -> Iterator[Array]:
        """Solutions of the squared equation for each branch of v's rule, and D of a step of 0."""
        yield -self.beta_1 * m / (1.0 - self.beta_1)
        along, rest = rate * (1.0 - self.beta_1), rate * self.beta_1 * m - step * self.tau
        for offset, slope in self.branches(v):
            # (step^2 slope - along^2) D^2 - 2 along rest D + step^2 offset - rest^2 = 0, by the stable formula
            half = along * rest
            inside = along**2 * offset + slope * rest**2 - slope * offset * step**2
            root = np.abs(step) * np.sqrt(np.maximum(inside, 0.0))
            large = half + np.where(half >= 0.0, root, -root)
            with np.errstate(all="ignore"):
                for solution in (
                    large / (step**2 * slope - along**2),
                    (step**2 * offset - rest**2) / large,
                ):
                    yield np.where(np.isfinite(solution), solution, 0.0)

    def rate(self, steps: int) -> float:
        """Eta in the round of so many steps, this one included."""
        return self.server_learning_rate

    def branches(self, v: Array) -> Iterator[tuple[Array, float]]:
        """The parts of v's rule: the new v is the first number plus the second times D^2."""
        raise NotImplementedError

    def second_moment(self, v: Array, square: Array) -> Array:
        """The new v from the old one and D^2."""
        raise NotImplementedError


class Adam(Adaptive):
    """v <- b2 v + (1 - b2) D^2, and eta corrected for the moments' start at 0, with one step more than were taken."""

    def rate(self, steps: int) -> float:
        """Eta, corrected."""
        corrected = np.sqrt(1.0 - self.beta_2 ** (steps + 1)) / (1.0 - self.beta_1 ** (steps + 1))
        return self.server_learning_rate * float(corrected)

    def branches(self, v: Array) -> Iterator[tuple[Array, float]]:
        """One rule for all D."""
        yield self.beta_2 * v, 1.0 - self.beta_2

    def second_moment(self, v: Array, square: Array) -> Array:
        """b2 v + (1 - b2) D^2."""
        moment: Array = self.beta_2 * v + (1.0 - self.beta_2) * square
        return moment


class Yogi(Adaptive):
    """v <- v - (1 - b2) D^2 sign(v - D^2)."""

    def branches(self, v: Array) -> Iterator[tuple[Array, float]]:
        """Of D^2 above v, and below."""
        yield v, 1.0 - self.beta_2
        yield v, self.beta_2 - 1.0

    def second_moment(self, v: Array, square: Array) -> Array:
        """V - (1 - b2) D^2 sign(v - D^2)."""
        moment: Array = v - (1.0 - self.beta_2) * square * np.sign(v - square)
        return moment


STEPS: Mapping[str, type[ServerStep]] = {
    "fedavg": Averaging,
    "fedprox": Averaging,
    "fedavgm": Momentum,
    "fedadam": Adam,
    "fedyogi": Yogi,
    "scaffold": Corrected,
}
"""By the strategy's name. Of others, such as robust ones and other packages', the step is taken as it is."""


def server_step(training: Mapping[str, Any]) -> ServerStep:
    """The server's step, with its hyper-parameters, as the public facts of a training have it.

    Transcripts from before there were strategies are of fedavg.

    Raises:
        TranscriptError: a hyper-parameter is missing, or out of its range.
    """
    name = str(training.get("strategy", "fedavg"))
    cls = STEPS.get(name, ServerStep)
    try:
        return cls(**{key: training[key] for key in cls.model_fields if key in training})
    except ValidationError as error:
        raise TranscriptError(f"public knowledge: training by {name} {said(error)}") from None


def mean_updates(models: Sequence[Params], step: ServerStep, near: Sequence[Params] | None = None) -> list[Params]:
    """The clients' mean update of every round.

    A round in which no parameter moved is one to which nobody came: it leaves what the server keeps as it is.

    Args:
        models: what was released, from the first model of a training on, oldest first.
        step: the server's.
        near: mean updates that these are like, one for each round.

    Returns:
        float64 mean updates, one less than there are models.
    """
    means: list[Params] = []
    memory = Memory()
    for number, (old, new) in enumerate(pairwise(models)):
        wide = {name: np.asarray(value, np.float64) for name, value in old.items()}
        moved: Params = {name: np.asarray(new[name], np.float64) - value for name, value in wide.items()}
        if any(value.any() for value in moved.values()):
            error = {name: _ROUNDING * np.abs(value) for name, value in wide.items()}
            wanted = None if near is None else near[number]
            moved, memory = step.mean(moved, memory, wanted, error)
        means.append(moved)
    return means
