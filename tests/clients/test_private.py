"""Private steps against Opacus, the noise against its distribution, and what a deletion may not move."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

from palimpsest.clients.private import PrivateSlot, fit_privately, private_gradients
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.world.models.card import ModelCard
from palimpsest.simulator.world.models.given import remember
from palimpsest.simulator.world.models.gradients import clipped_sums
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.privacy.noise import Noise, SystemNoise
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import FeatureSpec, ModelKind, ModelSpec, PrivateSteps, Recipe
from tests.support.noise import assert_deviation

KINDS: list[ModelKind] = ["ridge", "softmax", "svm", "mlp", "cnn"]
POPULATION = digits_population()


def _model(kind: ModelKind, dtype: str = "float32", features: FeatureSpec | None = None) -> Model:
    return model_of(
        ModelSpec(
            kind=kind, task="classification", shape=(1, 8, 8), outputs=10, regularisation=0.0, hidden=8,
            dtype=dtype, features=features,
        )
    )  # fmt: skip


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(POPULATION.train_x), torch.from_numpy(POPULATION.train_y)


def _starts(model: Model, count: int) -> tuple[list[Params], dict[str, torch.Tensor]]:
    models = [model.init(generator(7, "start", i)) for i in range(count)]
    return models, {name: torch.from_numpy(np.stack([one[name] for one in models])) for name in model.names}


class _Replayed:
    """A source that gives what it is told to: coins first, then noise."""

    def __init__(self, coins: Array, normals: Sequence[Array]) -> None:
        self.coins, self.normals = coins, list(normals)

    def random(self, size: tuple[int, ...]) -> Array:
        return self.coins.reshape(size)

    def standard_normal(self, size: tuple[int, ...]) -> Array:
        return self.normals.pop(0).reshape(size)


def _dp_optimizer(model: Model, params: Params, recipe: Recipe, expected: float) -> tuple[nn.Module, DPOptimizer]:
    module = GradSampleModule(model.module(params))
    assert recipe.private is not None
    inner = torch.optim.SGD(module.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
    return module, DPOptimizer(
        inner, noise_multiplier=0.0, max_grad_norm=recipe.private.clip, expected_batch_size=expected
    )


@pytest.mark.parametrize("clip", [0.05, 1.0, 100.0])
@pytest.mark.parametrize("kind", KINDS)
def test_clipped_sums_are_those_of_opacus(kind: ModelKind, clip: float) -> None:
    """In float64, to 1e-6 of the clip: records on both sides of it, and places that are empty."""
    model = _model(kind, "float64")
    models, stacked = _starts(model, 3)
    x, y = _data()
    rows = torch.arange(3 * 12).view(3, 12)
    filled = torch.ones(3, 12, dtype=torch.bool)
    filled[0, 7:] = False
    found = clipped_sums(model, stacked, x[rows].double(), y[rows], filled, clip)
    for i, params in enumerate(models):
        recipe = Recipe(private=PrivateSteps(clip=clip, noise_multiplier=1.0))
        module, optimizer = _dp_optimizer(model, params, recipe, 1.0)
        own = rows[i][filled[i]]
        model.losses(module(x[own].double()), y[own]).mean().backward()
        optimizer.clip_and_accumulate()
        for name, value in zip(model.names, optimizer.params, strict=True):
            assert torch.allclose(found[name][i], value.summed_grad, rtol=0.0, atol=1e-6 * clip)


class _Residual(nn.Module):
    """Somebody else's network: a skip connection, a norm, and names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.readout = nn.Linear(4 * 64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.stem(x))
        out: torch.Tensor = self.readout((x + torch.tanh(self.norm(x))).flatten(1))
        return out


@pytest.mark.parametrize("plugged_in", [True, False], ids=["plug-in", "convnet"])
def test_gradients_of_single_records_of_a_module_are_those_of_opacus(plugged_in: bool) -> None:
    """To 1e-6 in float64, of every parameter of every record: without a clip the sum over one record is its own."""
    card = ModelCard(lambda schema, options: _Residual(), tasks=("classification",))
    model = _model(remember(card) if plugged_in else "convnet", "float64")
    [params], stacked = _starts(model, 1)
    x, y = _data()
    x, y = x[:6].double(), y[:6]
    alone = {name: value.expand(6, *value.shape[1:]) for name, value in stacked.items()}
    found = clipped_sums(model, alone, x[:, None], y[:, None], torch.ones(6, 1, dtype=torch.bool), 1e12)
    module = GradSampleModule(model.module(params), loss_reduction="sum")
    model.losses(module(x), y).sum().backward()
    theirs = [value.grad_sample for value in module.parameters() if value.requires_grad]
    for name, value in zip(model.names, theirs, strict=True):
        assert torch.allclose(found[name], value, rtol=0.0, atol=1e-6)


def test_features_are_clipped_as_the_model_sees_them() -> None:
    features = FeatureSpec(dimension=32, bandwidth=2.0, seed=3)
    model = _model("softmax", "float64", features)
    models, stacked = _starts(model, 2)
    x, y = _data()
    rows = torch.arange(20).view(2, 10)
    found = clipped_sums(model, stacked, x[rows].double(), y[rows], torch.ones(2, 10, dtype=torch.bool), 0.3)
    wanted = torch.zeros_like(found["weight"][0])
    for row in rows[0].tolist():
        params = {name: value.requires_grad_() for name, value in model.tensors(models[0]).items()}
        loss = model.losses(model.scores(params, x[row : row + 1].double()), y[row : row + 1]).sum()
        slopes = torch.autograd.grad(loss, list(params.values()))
        length = math.sqrt(sum(float((slope**2).sum()) for slope in slopes))
        wanted += slopes[0] * min(1.0, 0.3 / (length + 1e-6))
    assert torch.allclose(found["weight"][0], wanted, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("kind", ["softmax", "mlp", "cnn"])
def test_a_training_is_that_of_opacus_on_the_same_batches_and_noise(kind: ModelKind) -> None:
    """Six steps with momentum, of which one is empty: Opacus' optimizer clips, sums, scales and steps."""
    model = _model(kind, "float64")
    models, stacked = _starts(model, 1)
    recipe = Recipe(
        batch_size=5, local_epochs=2, learning_rate=0.1, momentum=0.5,
        private=PrivateSteps(clip=0.5, noise_multiplier=0.8),
    )  # fmt: skip
    rng, size, count = np.random.default_rng(0), 13, 3
    coins = rng.random((6, size))
    coins[2] = 0.99
    normals = [rng.standard_normal(model.size) for _ in range(6)]
    x, y = _data()
    slot = PrivateSlot(0, np.arange(size), _Replayed(coins, list(normals)))
    found = fit_privately(model, stacked, [slot], x, y, recipe)
    module, optimizer = _dp_optimizer(model, models[0], recipe, size / count)
    for step in range(6):
        optimizer.zero_grad()
        rows = np.flatnonzero(coins[step] < 1.0 / count)
        model.losses(module(x[rows].double()), y[rows]).sum().div(max(len(rows), 1)).backward()
        optimizer.clip_and_accumulate()
        begin = 0
        for value in optimizer.params:
            noise = torch.from_numpy(0.4 * normals[step][begin : begin + value.numel()]).view_as(value)
            value.grad, begin = value.summed_grad + noise, begin + value.numel()
        optimizer.scale_grad()
        optimizer.original_optimizer.step()
    assert len(np.flatnonzero(coins[2] < 1.0 / count)) == 0
    for name, value in zip(model.names, optimizer.params, strict=True):
        assert torch.allclose(found[name][0], value, rtol=0.0, atol=1e-6)


def _slots(recipe: Recipe, clients: Sequence[int], gone: dict[int, tuple[int, ...]]) -> list[PrivateSlot]:
    slots = []
    for client in clients:
        places = np.arange(*POPULATION.offsets[client : client + 2])
        places[list(gone.get(client, ()))] = -1
        slots.append(PrivateSlot(client % 2, places, generator(5, "noise", client)))
    return slots


@pytest.mark.parametrize("kind", ["softmax", "mlp", "cnn"])
def test_a_client_has_the_same_bits_in_any_pack(kind: ModelKind) -> None:
    model = _model(kind)
    recipe = Recipe(batch_size=4, local_epochs=1, private=PrivateSteps(clip=1.0, noise_multiplier=1.0))
    _, stacked = _starts(model, 2)
    everyone = list(range(POPULATION.clients)) * 2
    together = fit_privately(model, stacked, _slots(recipe, everyone, {}), *_data(), recipe)
    for chosen in ([3], [7, 2], [11, 5, 0, 9, 1]):
        apart = fit_privately(model, stacked, _slots(recipe, chosen, {}), *_data(), recipe)
        for name in model.names:
            assert torch.equal(apart[name], together[name][chosen])


def _null_update(noise: Noise, how: PrivateSteps, size: int = 40) -> Array:
    """One step of a client whose every record is deleted: nothing but the noise of an empty batch."""
    model = _model("softmax")
    start = {name: torch.zeros((1, *shape)) for name, shape in model.shapes.items()}
    recipe = Recipe(batch_size=size, learning_rate=1.0, private=how)
    slot = PrivateSlot(0, np.full(size, -1), noise)
    found = fit_privately(model, start, [slot], *_data(), recipe)
    return np.concatenate([value.numpy().ravel() for value in found.values()])


@pytest.mark.parametrize("source", [generator(0, "noise"), SystemNoise()], ids=["seeded", "system"])
def test_an_empty_batch_adds_noise_of_the_deviation_that_is_accounted_over_the_expected_size(source: Noise) -> None:
    how = PrivateSteps(clip=2.0, noise_multiplier=1.5)
    sample = np.concatenate([_null_update(source, how) for _ in range(5)])
    assert_deviation(sample, 1.5 * 2.0 / 40)


def test_private_gradients_carry_noise_of_the_same_deviation() -> None:
    model = _model("softmax")
    _, stacked = _starts(model, 2)
    how = PrivateSteps(clip=2.0, noise_multiplier=1.5)
    found = []
    for seed in (0, 1):
        slots = [PrivateSlot(0, np.arange(9), generator(seed, "noise", i)) for i in range(6)]
        sums = private_gradients(model, stacked, slots, *_data(), how, chunk=4)
        found.append(np.concatenate([value.numpy().reshape(6, -1) for value in sums.values()], axis=1))
    assert_deviation(found[0] - found[1], math.sqrt(2.0) * 3.0)
    clean = private_gradients(
        model, stacked, [PrivateSlot(0, np.arange(9), generator(0, "noise"))], *_data(),
        PrivateSteps(clip=2.0, noise_multiplier=0.0), chunk=4,
    )  # fmt: skip
    assert math.sqrt(sum(float((value**2).sum()) for value in clean.values())) <= 9 * 2.0


def test_a_deleted_record_leaves_no_trace_but_its_place() -> None:
    """Replacing it changes no bit of what the others train; the coins and the noise of the others stay."""
    model = _model("softmax")
    _, stacked = _starts(model, 2)
    recipe = Recipe(batch_size=4, private=PrivateSteps(clip=1.0, noise_multiplier=1.0))
    gone = {2: (1, 3)}
    x, y = _data()
    other = x.clone()
    other[POPULATION.rows(2, gone[2])] = 0.5
    one = fit_privately(model, stacked, _slots(recipe, [2], gone), x, y, recipe)
    two = fit_privately(model, stacked, _slots(recipe, [2], gone), other, y, recipe)
    assert all(torch.equal(one[name], two[name]) for name in model.names)
