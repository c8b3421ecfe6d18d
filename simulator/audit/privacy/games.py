"""Games with a worst-case canary: the product's own functions draw the noise, in thousands of trials at once.

A game is played in two worlds that differ in one unit, present or null; all others are null, as an adversary who knows
them takes them off. The canary moves a sum by all that the clip allows, in one direction that does not change (Nasr et
al., USENIX Security 2023). A score is the log likelihood ratio under the noise that is claimed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from scipy.stats import binom

from palimpsest.attacks.likelihood_ratio import mixture
from palimpsest.clients.clipping import clipped_sum
from palimpsest.clients.private import PrivateSlot, fit_privately, private_gradients
from palimpsest.defenses.central_dp import CentralDp
from palimpsest.defenses.dp_sgd import DpSgd
from palimpsest.defenses.dp_statistics import DpStatistics
from palimpsest.defenses.output_perturbation import OutputPerturbation
from palimpsest.server.aggregation import aggregated
from palimpsest.server.blocks import cohort
from palimpsest.server.setup import Lineage, Setup, TrainingPlan
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.privacy.account import Account, Charge, Spending
from palimpsest.simulator.world.protocols.defense import Memory, Solved
from palimpsest.simulator.world.protocols.federation import BlockResult, Statistics
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import ModelSpec, Recipe

SPEC = ModelSpec(
    kind="ridge", task="regression", shape=(1,), outputs=1, regularisation=1.0, row_clip=0.0, dtype="float64"
)
"""One feature and an intercept: the noise does not ask how many parameters there are."""
_FAR = 1e6
"""The canary's target: no step comes near it, so that its gradient is cut to the clip and keeps its direction."""


class Game(Protocol):
    """A mechanism with a canary."""

    @property
    def tight(self) -> bool:
        """Whether the canary loses all that is claimed, so that a smaller measured loss shows an error too."""
        ...

    @property
    def spending(self) -> Spending:
        """What the product charges the canary."""
        ...

    def scores(self, present: bool, trials: int, rng: np.random.Generator) -> Array:
        """``[trials]`` scores of runs with or without the canary."""
        ...


@dataclass(frozen=True)
class LocalSteps:
    """Rounds of a client under dp-sgd, in which a record takes part in a step by a coin, one in ``batches``.

    Attributes:
        steps: of a round.
    """

    defense: DpSgd
    batches: int = 1
    steps: int = 1
    rounds: int = 1
    tight: ClassVar[bool] = True

    @property
    def spending(self) -> Spending:
        """A round's charge, as often."""
        return _times(self.defense.charge(self._recipe, self.batches), self.rounds)

    @property
    def _recipe(self) -> Recipe:
        return Recipe(batch_size=1, local_steps=self.steps, learning_rate=1.0)

    def scores(self, present: bool, trials: int, rng: np.random.Generator) -> Array:
        """Every trial is a client of ``batches`` records, of which all but the canary are null."""
        recipe, model = self.defense.local_training(self._recipe), model_of(SPEC)
        x, y = _canary()
        places = np.full(self.batches, -1, dtype=np.int64)
        places[0] = 0 if present else -1
        slots = [PrivateSlot(trial, places, rng) for trial in range(trials)]
        models = _zeros(model, trials)
        counts = np.arange(self.steps + 1.0)
        chance = binom.pmf(counts, self.steps, 1.0 / self.batches)
        total, variance = np.zeros(trials), self.steps * self.defense.sigma**2
        for _ in range(self.rounds):
            moved = fit_privately(model, models, slots, x, y, recipe)
            told = _along({name: moved[name] - models[name] for name in model.names}) / self.defense.clip
            total += mixture(told / variance, np.full(trials, 1.0 / variance), counts, chance)
            models = moved
        return total


@dataclass(frozen=True)
class PrivateSums:
    """Gradients over all records of a client under dp-sgd: rounds of fedsgd, or steps of ascent."""

    defense: DpSgd
    rounds: int = 1
    tight: ClassVar[bool] = True

    @property
    def spending(self) -> Spending:
        """A gradient's charge, as often."""
        return _times(self.defense.charge_once(), self.rounds)

    def scores(self, present: bool, trials: int, rng: np.random.Generator) -> Array:
        """Every trial is a client that has the canary or nothing."""
        how, model = self.defense.local_training(Recipe()).private, model_of(SPEC)
        assert how is not None  # of dp-sgd
        x, y = _canary()
        slots = [PrivateSlot(trial, np.array([0 if present else -1]), rng) for trial in range(trials)]
        models, told = _zeros(model, trials), np.zeros(trials)
        for _ in range(self.rounds):
            told -= _along(private_gradients(model, models, slots, x, y, how, chunk=1)) / self.defense.clip
        return told


@dataclass(frozen=True)
class NoisedAverages:
    """Rounds of central-dp.

    Attributes:
        rate: with which a client takes part where nobody sees who does; 1: it takes part, and may be seen to.
    """

    defense: CentralDp
    rounds: int = 1
    rate: float = 1.0
    tight: ClassVar[bool] = True

    @property
    def spending(self) -> Spending:
        """What the account says after these rounds."""
        setup = self._setup(1, 0)
        for round in range(self.rounds):
            aggregated(setup, Lineage(0, {}), round, {}, None, [0], {})
        return setup.account.spent(0, 0)

    def _setup(self, trials: int, seed: int) -> Setup:
        plan = TrainingPlan(algorithm="fedavg", rounds=self.rounds, sampling_rate=self.rate)
        sizes = np.ones(trials, np.int64)
        account, hidden = Account("client", sizes), self.rate < 1.0
        return Setup(SPEC, plan, sizes, seed=seed, defense=self.defense, account=account, sampling_is_secret=hidden)

    def scores(self, present: bool, trials: int, rng: np.random.Generator) -> Array:
        """Every coordinate of one noised sum is a trial, whose canary takes part as a client of that number would."""
        setup, memory, total = self._setup(trials, int(rng.integers(2**31))), Memory(), np.zeros(trials)
        variance, coins = self.defense.sigma**2, np.array([1.0 - self.rate, self.rate])
        for round in range(self.rounds):
            clip = self.defense.client_update(memory)
            [length] = clipped_sum({"x": torch.tensor([[_FAR * clip]])}, np.ones(1), clip).sums["x"]
            taking_part, sums = np.zeros(trials), np.zeros(trials)
            taking_part[list(cohort(setup, Lineage(0, {}), round))] = 1.0
            sums += present * length * taking_part
            noised, memory = aggregated(
                setup, Lineage(0, {}), round, {}, BlockResult({"x": sums}, float(trials)), [0], memory
            )
            told = noised.sums["x"] / clip
            total += mixture(told / variance, np.full(trials, 1.0 / variance), np.array([0.0, 1.0]), coins)
        return total


@dataclass(frozen=True)
class NoisedStatistics:
    """Statistics of ridge under dp-statistics; the canary moves the least eigenvalue less than is allowed for."""

    defense: DpStatistics
    rounds: int = 1
    tight: ClassVar[bool] = False

    @property
    def spending(self) -> Spending:
        """A solution's charge, as often."""
        return _times(self.defense.charge(Recipe(), 1), self.rounds)

    def scores(self, present: bool, trials: int, rng: np.random.Generator) -> Array:
        """Read off the noised Gram matrix and moment, of which a model is made.

        What the regulariser grows by is on the diagonal, and nearly always the same.
        """
        spec = self.defense.model(SPEC)
        row, target = np.array([self.defense.clip, 1.0]), np.array([self.defense.target_clip])
        gram, moment = np.outer(row, row), np.outer(row, target)
        exact = Statistics(gram * present, moment * present, int(present))
        bound, entries = float(row @ row), ([0, 0, 1], [0, 1, 1])
        weights = [*(gram[entries] / bound**2), *(moment[:, 0] / (bound * float(target[0]) ** 2))]
        total = np.zeros(trials)
        for _ in range(self.rounds):
            for trial in range(trials):
                seen = self.defense.statistics(exact, spec, rng)
                total[trial] += float(np.dot(weights, [*seen.gram[entries], *seen.moment[:, 0]]))
        return total


@dataclass(frozen=True)
class NoisedSolutions:
    """Solutions under output-perturbation, as far apart in the two worlds as the sensitivity allows."""

    defense: OutputPerturbation
    rounds: int = 1
    tight: ClassVar[bool] = True

    @property
    def spending(self) -> Spending:
        """A solution's charge, as often."""
        return _times(self.defense.charge(Recipe(), 1), self.rounds)

    def scores(self, present: bool, trials: int, rng: np.random.Generator) -> Array:
        """Every parameter of one noised model is a trial."""
        about = Solved(self.defense.model(SPEC), 1, 0.0, rng)
        reach = self.defense.sensitivity(about)
        solved = {"weight": np.full(trials, present * reach)}
        total = np.zeros(trials)
        for _ in range(self.rounds):
            total += self.defense.solution(solved, about)["weight"] / reach
        return total


@dataclass(frozen=True)
class Composed:
    """Several games with one canary, one after the other."""

    games: Sequence[Game]

    @property
    def tight(self) -> bool:
        """Whether all are."""
        return all(game.tight for game in self.games)

    @property
    def spending(self) -> Spending:
        """What all charge."""
        total = Counter[tuple[float, float]]()
        for game in self.games:
            total.update(game.spending)
        return total

    def scores(self, present: bool, trials: int, rng: np.random.Generator) -> Array:
        """Evidence adds up."""
        total: Array = np.sum([game.scores(present, trials, rng) for game in self.games], axis=0)
        return total


def many_canaries(defense: DpSgd, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """One run of dp-sgd, a single noisy step over a client, with so many canaries at once.

    Each is there by a fair coin and moves the sum along a direction of its own.

    Returns:
        ``[count]`` whether each was there, and its score.
    """
    how, there = defense.local_training(Recipe()).private, rng.random(count) < 0.5
    assert how is not None  # of dp-sgd
    model = model_of(SPEC.model_copy(update={"shape": (count,)}))
    x, y = torch.eye(count, dtype=torch.float64) * _FAR, torch.full((count,), _FAR, dtype=torch.float64)
    slot = PrivateSlot(0, np.where(there, np.arange(count), -1), rng)
    noised = private_gradients(model, _zeros(model, 1), [slot], x, y, how, chunk=count)
    return there, -noised["weight"][0, 0].numpy()


def _times(charge: Charge, rounds: int) -> Spending:
    return {(charge.noise_multiplier, charge.sample_rate): charge.steps * rounds}


def _canary() -> tuple[torch.Tensor, torch.Tensor]:
    """The record x = 1 with a target far away."""
    return torch.ones(1, 1, dtype=torch.float64), torch.full((1,), _FAR, dtype=torch.float64)


def _zeros(model: Model, count: int) -> dict[str, torch.Tensor]:
    return {name: torch.zeros((count, *shape), dtype=torch.float64) for name, shape in model.shapes.items()}


def _along(sums: dict[str, torch.Tensor]) -> Array:
    """``[trials]`` along the canary's [x; 1], of length 1."""
    told: Array = ((sums["weight"][:, 0, 0] + sums["bias"][:, 0]) / np.sqrt(2.0)).numpy()
    return told
