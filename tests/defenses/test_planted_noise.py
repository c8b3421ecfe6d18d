"""Wherever noise enters, its distribution over the sensitivity is what the account is charged, and no factor of two.

Sampling hides a wrong deviation from audits; a test of the noise itself sees it at every place.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from palimpsest.clients.private import PrivateSlot, fit_privately, private_gradients
from palimpsest.defenses.central_dp import CentralDp
from palimpsest.defenses.dp_sgd import DpSgd
from palimpsest.defenses.dp_statistics import DpStatistics
from palimpsest.defenses.obfuscation import Obfuscation
from palimpsest.defenses.output_perturbation import OutputPerturbation
from palimpsest.simulator.testing.servers import RIDGE, SOFTMAX
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.privacy.noise import Noise
from palimpsest.simulator.world.protocols.defense import Round, Solved
from palimpsest.simulator.world.protocols.federation import BlockResult, Statistics
from palimpsest.simulator.world.records import Array, Release
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Recipe
from tests.support.noise import is_normal

WIDE = {"weight": np.zeros((40, 100))}
RATE, CLIENT = 0.25, 12


class _Off:
    """A source whose noise is off by a factor."""

    def __init__(self, factor: float) -> None:
        self.noise, self.factor = generator(0, "planted"), factor

    def standard_normal(self, size: tuple[int, ...]) -> Array:
        return self.factor * self.noise.standard_normal(size)

    def random(self, size: tuple[int, ...]) -> Array:
        return self.noise.random(size)


def _client_steps(noise: Noise) -> tuple[Array, float]:
    """An update of a client whose records are all null: steps at a rate of 1/3, each of lr N(0, (sigma C)^2) / 4."""
    guard, model = DpSgd(noise_multiplier=1.3, clip=0.5), model_of(SOFTMAX)
    recipe = guard.local_training(Recipe(batch_size=4, local_epochs=1, learning_rate=RATE))
    starts = {name: torch.zeros((1, *shape)) for name, shape in model.shapes.items()}
    slots = [PrivateSlot(0, np.full(CLIENT, -1), noise) for _ in range(6)]
    empty = torch.zeros(1, 64), torch.zeros(1, dtype=torch.int64)
    moved = fit_privately(model, starts, slots, *empty, recipe)
    charge = guard.charge(recipe, CLIENT)
    assert charge.sample_rate == pytest.approx(1.0 / 3.0)
    told = np.concatenate([value.numpy().ravel() for value in moved.values()])
    return told / (RATE * 0.5 / 4.0) / np.sqrt(charge.steps), charge.noise_multiplier


def _client_gradient(noise: Noise) -> tuple[Array, float]:
    guard, model = DpSgd(noise_multiplier=1.3, clip=0.5), model_of(SOFTMAX)
    how = guard.local_training(Recipe()).private
    assert how is not None
    starts = {name: torch.zeros((1, *shape)) for name, shape in model.shapes.items()}
    slots = [PrivateSlot(0, np.array([-1]), noise) for _ in range(6)]
    empty = torch.zeros(1, 64), torch.zeros(1, dtype=torch.int64)
    sums = private_gradients(model, starts, slots, *empty, how, chunk=1)
    return np.concatenate(
        [value.numpy().ravel() for value in sums.values()]
    ) / 0.5, guard.charge_once().noise_multiplier


def _aggregation(noise: Noise) -> tuple[Array, float]:
    guard = CentralDp(noise_multiplier=1.3, clip=0.5)
    noised, _ = guard.aggregate(BlockResult(WIDE, 3.0), Round(10.0, noise))
    return noised.sums["weight"] / guard.client_update({}), guard.charge(Recipe(), 0).noise_multiplier


def _statistics(noise: Noise) -> tuple[Array, float]:
    """Three mechanisms of sqrt 3 sigma each are one of sigma; here the two that are released, R^2 = 2 and R B."""
    guard = DpStatistics(noise_multiplier=1.3, clip=1.0)
    exact = Statistics(np.zeros((65, 65)), np.zeros((65, 10)), 0)
    seen = guard.statistics(exact, guard.model(RIDGE), noise)
    upper = seen.gram[np.triu_indices(65, 1)] / 2.0
    both = np.concatenate([upper, seen.moment.ravel() / np.sqrt(2.0)])
    return both / np.sqrt(3.0), guard.charge(Recipe(), 1).noise_multiplier


def _output(noise: Noise) -> tuple[Array, float]:
    """Softmax: sqrt 2 R / lambda, R^2 = 2."""
    guard = OutputPerturbation(noise_multiplier=1.3, clip=1.0)
    noised = guard.solution(WIDE, Solved(guard.model(SOFTMAX), 300, 0.0, noise))
    return noised["weight"] * SOFTMAX.regularisation / 2.0, guard.charge(Recipe(), 1).noise_multiplier


def _release(noise: Noise) -> tuple[Array, float]:
    guard = Obfuscation(sigma=0.3)
    return flat(guard.release(Release(0, 1, "training", WIDE), noise).params), guard.sigma


PLACES: dict[str, Callable[[Noise], tuple[Array, float]]] = {
    "client, steps": _client_steps,
    "client, gradient": _client_gradient,
    "aggregation": _aggregation,
    "statistics": _statistics,
    "output": _output,
    "release": _release,
}


@pytest.mark.parametrize("place", PLACES)
def test_the_noise_is_what_is_charged_and_a_factor_of_two_is_seen(place: str) -> None:
    for factor in (0.5, 1.0, 2.0):
        over_sensitivity, charged = PLACES[place](_Off(factor))
        assert is_normal(over_sensitivity, charged) == (factor == 1.0)
